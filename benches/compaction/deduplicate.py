"""The latest record of each key, by DuckDB: one SQL statement over the same objects, as files."""

import sys

import duckdb

sources, output = sys.argv[1:]
duckdb.sql("SET threads = 2")
duckdb.sql(f"""
    COPY (
        SELECT arg_max(json::VARCHAR, (json ->> '$.updated_at')::BIGINT)
        FROM read_ndjson_objects('{sources}')
        GROUP BY json ->> '$.user.id'
    ) TO '{output}' (FORMAT csv, HEADER false, DELIMITER '\x01', QUOTE '', ESCAPE '')
""")
