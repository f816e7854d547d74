"""The paths of a web log that fail most, found by a regular expression over its lines."""

import mmflow as mf

# host ident user [time] "method path protocol" status bytes
LINE = r'^(\S+) \S+ \S+ \[([^\]]+)\] "(\S+) (\S+)[^"]*" ([0-9]{3}) '


@mf.job
def top_errors(session: mf.Session, *, source: str, top: int = 10, least: int = 500) -> mf.Dataset:
    """Paths by number of failed requests, most first.

    Args:
        source: log files in the common format; a file, glob or folder
        top: how many paths
        least: the lowest status that counts as failed
    """
    lines = session.read_text(source)
    return session.sql(
        f"""
        WITH requests AS (SELECT regexp_match(line, '{LINE}') AS m FROM lines)
        SELECT m[4] AS path, m[5] AS status, count(*) AS requests, count(DISTINCT m[1]) AS hosts
        FROM requests
        WHERE m IS NOT NULL AND cast(m[5] AS int) >= {int(least)}
        GROUP BY m[4], m[5]
        ORDER BY requests DESC, path, status
        LIMIT {int(top)}
        """,
        lines=lines,
    )
