"""The latest record of each key, by DuckDB: one SQL statement over the same objects, through S3 or as files."""

import os
import sys
from pathlib import Path

import duckdb


def use_s3():
    """Over the benchmark's server. The extension is a package; DuckDB checks its signature."""
    import duckdb_extension_httpfs

    [extension] = Path(duckdb_extension_httpfs.__path__[0]).glob("extensions/*/httpfs.duckdb_extension")
    duckdb.sql(f"LOAD '{extension}'")
    host = os.environ["BENCH_ENDPOINT"].removeprefix("http://").rstrip("/")
    duckdb.sql(f"""
        CREATE SECRET (
            TYPE s3, ENDPOINT '{host}', USE_SSL false, URL_STYLE 'path', REGION 'us-east-1',
            KEY_ID '{os.environ["AWS_ACCESS_KEY_ID"]}', SECRET '{os.environ["AWS_SECRET_ACCESS_KEY"]}'
        )
    """)


sources, output = sys.argv[1:]
duckdb.sql("SET threads = 2")
if sources.startswith("s3://"):
    use_s3()
duckdb.sql(f"""
    COPY (
        SELECT arg_max(json::VARCHAR, (json ->> '$.updated_at')::BIGINT)
        FROM read_ndjson_objects('{sources}')
        GROUP BY json ->> '$.user.id'
    ) TO '{output}' (FORMAT csv, HEADER false, DELIMITER '\x01', QUOTE '', ESCAPE '')
""")
