"""Write data/published_curves.json: success curves and protocol table of the published methods, from their files.

About a minute: .venv/bin/python benchmarks/bench_published.py
"""

from hrlib.evaluation.published_curves import PUBLISHED_CURVES, published_table, write_table


def main():
    table = published_table()
    write_table(PUBLISHED_CURVES, table)
    for curve in table["curves"]:
        if curve["protocol"]["bias"] == "none":
            print(f"{curve['dataset']:5} {curve['name']:17} {curve['mean_mm']:7.3f} mm, area {curve['auc']:.3f}")


if __name__ == "__main__":
    main()
