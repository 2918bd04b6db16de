-- error: 2:1: 2 statements; a query file holds one; move each into a file of its own
SELECT 1;
SELECT 2
