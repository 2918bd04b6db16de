-- error: 2:1: CREATE TABLE: `spend` would vanish with this statement; declare the table in `lake/*.sql`; standing queries and streams fill it
CREATE TABLE spend (state TEXT)
