-- error: 2:1: SET: a setting would end with this statement; settings of the job are in `config.toml`, or `--set section.key=value`
SET datafusion.execution.batch_size = 10
