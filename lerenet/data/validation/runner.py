"""The gate before training: Great Expectations on the catalogue and on the frozen episodes.

The only module that imports great_expectations (about 3 s, inside the functions). What is checked
stands in `lerenet.data.validation.catalog_checks` and `lerenet.data.validation.episode_checks`.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lerenet.data.validation.catalog_checks import COLUMNS, REBUILD, Check, Suite, catalog_suites, schema
from lerenet.data.validation.data_docs import write_docs
from lerenet.data.validation.episode_checks import episode_schema, fold_suites
from lerenet.errors import DataError
from lerenet.files import atomic_dir, write_json
from lerenet.params import ValidationSettings

SHOWN_ROWS = 20  # failing rows kept in result.json
TOLD_ROWS = 5  # failing rows in the error's message


def validate_catalog(
    catalog: pd.DataFrame, settings: ValidationSettings, shots: Sequence[int], out: Path
) -> dict[str, Any]:
    """Check the catalogue; write ``result.json`` and ``docs/`` into ``out``.

    Args:
        catalog: The rows of artifacts/catalog.parquet.
        settings: The limits (``validation`` in params.yaml).
        shots: The numbers of supports that each class must be able to give.
        out: Folder; created when missing.

    Returns:
        What result.json holds: ``success``, ``failed``, ``warnings`` and ``expectations``, each with
        ``suite``, ``sentence``, ``remedy``, ``severity``, ``success``, ``observed``, ``failing`` (how
        many rows) and ``rows`` (up to 20: the row's key and its value).

    Raises:
        DataError: an expectation fails; its message has each failed expectation, its first rows
            and the remedy. The files are written before.
    """
    shape = schema("schema", catalog, COLUMNS, REBUILD)
    with _Runner() as runner:
        if runner.run(shape):
            for suite in catalog_suites(catalog, settings, shots):
                runner.run(suite)
        result = runner.finish("Validation of the images", out)
    return _raise_on_failure(result, "the images", out)


def validate_folds(
    folds: Mapping[str, Any], episodes: pd.DataFrame, catalog: pd.DataFrame, out: Path
) -> dict[str, Any]:
    """Check splits and episodes for leaks and gaps; write ``result.json`` and ``docs/`` into ``out``.

    Args:
        folds: What folds.json holds.
        episodes: The rows of episodes.parquet.
        catalog: The catalogue they were drawn from.
        out: Folder; created when missing.

    Returns:
        The same as `validate_catalog`.

    Raises:
        DataError: an expectation fails (files written before), or ``folds`` has no splits.
    """
    if not isinstance(folds.get("splits"), Mapping):
        raise DataError("folds.json: no 'splits' in it", "run `dvc repro --force folds`")
    with _Runner() as runner:
        if runner.run(episode_schema(episodes)):
            for suite in fold_suites(folds, episodes, catalog):
                runner.run(suite)
        result = runner.finish("Validation of the folds", out)
    return _raise_on_failure(result, "the folds", out)


class _Runner:
    """Runs suites in one ephemeral context and builds its Data Docs in a temporary folder."""

    def __init__(self) -> None:
        self._quiet = warnings.catch_warnings()
        self._raw = tempfile.TemporaryDirectory(prefix="lerenet-docs-")
        self._suites: list[str] = []
        self._found: list[dict[str, Any]] = []

    def __enter__(self) -> _Runner:
        self._quiet.__enter__()
        warnings.simplefilter("ignore")
        self._gx, self._context = _context(Path(self._raw.name))
        self._source = self._context.data_sources.add_pandas("lerenet")
        return self

    def __exit__(self, *error: object) -> None:
        self._quiet.__exit__(None, None, None)
        self._raw.cleanup()

    def run(self, suite: Suite) -> bool:
        """Validate one suite, keep its findings; True when no error-level check failed."""
        gx, context = self._gx, self._context
        whole = self._source.add_dataframe_asset(suite.name).add_batch_definition_whole_dataframe("all")
        expected = context.suites.add(gx.ExpectationSuite(name=suite.name))
        for number, check in enumerate(suite.checks):
            expected.add_expectation(_expectation(gx, check, number))
        expected.save()
        definition = gx.ValidationDefinition(name=suite.name, data=whole, suite=expected)
        format_ = {"result_format": "COMPLETE", "unexpected_index_column_names": list(suite.keys)}
        checkpoint = gx.Checkpoint(
            name=suite.name,
            validation_definitions=[context.validation_definitions.add(definition)],
            result_format=format_ if suite.keys else "BASIC",
        )
        done = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": suite.frame})
        (validated,) = done.run_results.values()
        findings = _findings(suite, validated.results)
        self._suites.append(suite.name)
        self._found += findings
        return all(item["success"] or item["severity"] == "warning" for item in findings)

    def finish(self, title: str, out: Path) -> dict[str, Any]:
        """Write docs/ and result.json; return the result."""
        missed = [item for item in self._found if not item["success"]]
        failed = sum(item["severity"] == "error" for item in missed)
        result = {
            "success": failed == 0,
            "failed": failed,
            "warnings": len(missed) - failed,
            "expectations": self._found,
        }
        self._context.build_data_docs(site_names=["lerenet"])
        with atomic_dir(out / "docs") as docs:
            write_docs(Path(self._raw.name), docs, title, self._suites, result)
        write_json(out / "result.json", result)
        return result


def _context(raw: Path) -> tuple[Any, Any]:
    """Great Expectations, silent and offline, with one site of Data Docs in ``raw``."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(raw)}
    site: Any = {"class_name": "SiteBuilder", "show_how_to_buttons": False, "store_backend": store}
    context.add_data_docs_site("lerenet", site)
    return gx, context


def _expectation(gx: Any, check: Check, number: int) -> Any:
    make = getattr(gx.expectations, check.type)
    severity = "critical" if check.severity == "error" else "warning"
    return make(**check.args, notes=check.sentence, meta={"number": number}, severity=severity)


def _findings(suite: Suite, results: Sequence[Any]) -> list[dict[str, Any]]:
    ordered = sorted(results, key=lambda item: item.expectation_config.meta["number"])
    return [
        _finding(suite, check, bool(item.success), item.result, item.exception_info)
        for check, item in zip(suite.checks, ordered, strict=True)
    ]


def _finding(
    suite: Suite, check: Check, success: bool, result: Mapping[str, Any], trouble: Mapping[str, Any]
) -> dict[str, Any]:
    bad = result.get("unexpected_index_list") or []
    failing = int(result.get("unexpected_count", 0))
    if failing:
        observed = f"{failing} of {len(suite.frame)} rows"
    else:
        observed = str(result.get("observed_value", "" if success else trouble.get("exception_message", "")))
    if mismatch := result.get("details", {}).get("mismatched"):
        observed = "; ".join(f"{name}: {', '.join(values)}" for name, values in mismatch.items())
    return {
        "suite": suite.name,
        "sentence": check.sentence,
        "remedy": check.remedy,
        "severity": check.severity,
        "success": success,
        "observed": observed,
        "failing": failing,
        "rows": [_row(suite, check, item) for item in bad[:SHOWN_ROWS]],
    }


def _row(suite: Suite, check: Check, item: Mapping[str, Any]) -> dict[str, Any]:
    columns = [value for key, value in check.args.items() if key.startswith("column")]
    value = " / ".join(str(item[column]) for column in columns)
    return {**{key: str(item[key]) for key in suite.keys}, "value": value}


def _raise_on_failure(result: dict[str, Any], subject: str, out: Path) -> dict[str, Any]:
    failed = [item for item in result["expectations"] if not item["success"] and item["severity"] == "error"]
    if not failed:
        return result
    lines = [f"{subject}: {len(failed)} of {len(result['expectations'])} expectations failed"]
    for item in failed:
        lines.append(f"  - expected: {item['sentence']}; found: {item['observed']}")
        lines += [f"      {': '.join(row.values())}" for row in item["rows"][:TOLD_ROWS]]
        if item["failing"] > TOLD_ROWS:
            lines.append(f"      and {item['failing'] - TOLD_ROWS} more")
        lines.append(f"      remedy: {item['remedy']}")
    raise DataError("\n".join(lines), f"all rows are in {out / 'result.json'} and {out / 'docs/index.html'}")
