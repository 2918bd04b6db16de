-- error: 7:15: `$state` has no value; `--param stat` is given; did you mean `$stat`?; give one with `--param state=…`
-- error: 7:33: `$city` has no value; give one with `--param city=…`
-- error: `--param stat`: the statement has no `$stat`; did you mean `state`?
-- param: stat=NY
SELECT count(*) AS n
FROM transactions
WHERE state = $state AND city = $city
