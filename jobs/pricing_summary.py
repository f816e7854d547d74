"""TPC-H Q1, the pricing summary report, over lineitem.csv."""

import mmflow as mf

LINEITEM = {
    "l_orderkey": "int64",
    "l_partkey": "int64",
    "l_suppkey": "int64",
    "l_linenumber": "int32",
    "l_quantity": "decimal128(15, 2)",
    "l_extendedprice": "decimal128(15, 2)",
    "l_discount": "decimal128(15, 2)",
    "l_tax": "decimal128(15, 2)",
    "l_returnflag": "string",
    "l_linestatus": "string",
    "l_shipdate": "date32",
    "l_commitdate": "date32",
    "l_receiptdate": "date32",
    "l_shipinstruct": "string",
    "l_shipmode": "string",
    "l_comment": "string",
}


@mf.job
def pricing_summary(session: mf.Session, *, source: str, delta: int = 90) -> mf.Dataset:
    """Quantities and prices of shipped items by return flag and line status.

    Args:
        source: lineitem.csv, with a header; a file, glob or folder
        delta: days before 1998-12-01 up to which items count
    """
    lineitem = session.read_csv(source, schema=LINEITEM)
    return session.sql(
        f"""
        SELECT l_returnflag, l_linestatus,
               sum(l_quantity) AS sum_qty,
               sum(l_extendedprice) AS sum_base_price,
               sum(l_extendedprice * (1 - l_discount)) AS sum_disc_price,
               sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)) AS sum_charge,
               avg(l_quantity) AS avg_qty,
               avg(l_extendedprice) AS avg_price,
               avg(l_discount) AS avg_disc,
               count(*) AS count_order
        FROM lineitem
        WHERE l_shipdate <= date '1998-12-01' - interval '{int(delta)}' day
        GROUP BY l_returnflag, l_linestatus
        ORDER BY l_returnflag, l_linestatus
        """,
        lineitem=lineitem,
    )
