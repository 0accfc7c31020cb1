"""The page of an association: complete, safe, small, and fetching nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from sjd_dask import names
from sjd_dask.errors import SpecError
from sjd_dask.report import write_report
from sjd_dask.report.html import render_association
from sjd_dask.report.meta import AssociationMeta

CONTRAST = "disease[T.patient]"


def association(n: int, n_planted: int = 5, contrast: str = CONTRAST) -> pd.DataFrame:
    rng = np.random.default_rng(n)
    t = rng.standard_normal(n)
    t[:n_planted] += 15
    p = 2 * stats.norm.sf(np.abs(t))
    columns = {
        "feature_id": [f"cg{i + 1:08d}" for i in range(n)],
        "contrast": contrast,
        "effect": t * 0.1,
        "standard_error": 0.1,
        "statistic": t,
        "df": 90.5,
        "p_value": p,
        "q_value": stats.false_discovery_control(p),
        "log_odds": t**2 / 2 - 5,
        "mean": rng.normal(size=n),
        "sigma": 1.0,
        "n_samples": 100,
    }
    return pd.DataFrame(columns)[list(names.ASSOCIATION_COLUMNS)]


def annotation(n: int) -> pd.DataFrame:
    chromosome = np.array(["chr10", "chr2", "chrX", None], dtype=object)[np.arange(n) % 4]
    columns = {"chromosome": chromosome, "position": np.arange(n) * 1000.0 + 1, "gene_symbol": None}
    frame = pd.DataFrame(columns, index=pd.Index([f"cg{i + 1:08d}" for i in range(n)], name="feature_id"))
    frame["gene_symbol"] = frame["gene_symbol"].astype(object)
    frame.loc["cg00000001", "gene_symbol"] = "IFI44L"
    return frame


META: AssociationMeta = {
    "reference": "associations/ewas@1",
    "title": "EWAS of disease",
    "test": "linear",
    "design": "~ disease + age",
    "coefficients": ["Intercept", CONTRAST, "age"],
    "contrasts": {CONTRAST: {CONTRAST: 1.0}, "half": {CONTRAST: 0.5, "age": -1.0}},
    "moderation": "ebayes",
    "trend": True,
    "prior": {"df": [2.0, 3.5, "inf"], "s2": 0.05},
    "block": {"column": "person_id", "n_blocks": 80, "correlation": 0.41},
    "precision": "double",
    "cohort": {"name": "demo", "path": "./cohort", "snapshot": 3},
    "assay": "methylation",
    "quantity": "m_value",
    "encoding": {"stored_quantity": "beta", "dtype": "uint16", "scale_factor": 1 / 65534, "max_error": 7.63e-6},
    "samples": {"available": 120, "used": 100, "dropped": [{"reason": "missing age", "count": 20}]},
    "features": {"available": 502, "tested": 500, "dropped": [{"reason": "too few values", "count": 2}]},
    "warnings": ["One fraction was left out."],
    "companions": [{"label": "without cells", "contrast": CONTRAST, "lambda": 4.123, "n_features": 500, "n_q05": 320}],
    "spec": {"job": "associate", "design": "~ disease + age"},
    "run": {"id": "r1", "fingerprint": "abc123", "package_version": "0.1.0", "libraries": {"numpy": "2.4"}},
}


class Elements(HTMLParser):
    """Every element with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def text_of(page: str) -> str:
    body = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def test_the_page_says_what_was_run_on_what_and_what_was_found() -> None:
    n = 500
    first = association(n)
    first.loc[10:14, ["statistic", "effect", "p_value", "q_value"]] = np.nan
    f_test = association(n, contrast="F").assign(effect=np.nan, standard_error=np.nan, log_odds=np.nan)
    table = pa.Table.from_pandas(pd.concat([f_test, first]), preserve_index=False)
    page = render_association(table, META, annotation(n))
    text = text_of(page)
    for words in (
        "EWAS of disease",
        "One fraction was left out.",
        "~ disease + age",
        "moderated by empirical Bayes (trend)",
        "3.5 (median; 2 to ∞)",
        "80 blocks, consensus correlation 0.41",
        "uint16 beta values, error at most 7.6e-06",
        "missing age 20",
        "too few values 2",
        "495 features: not a genomic estimate",
        "5 features have no p-value",
        "without cells",
        "4.12",
        "F-test over all contrasts",
        "IFI44L",
        "abc123",
        "numpy 2.4",
        "without a known place",
    ):
        assert words in text, words
    assert "genomic inflation" not in text
    elements = Elements(page)
    assert [h["id"] for h in elements.of("section") if h.get("class") == "contrast"] == ["contrast-1", "contrast-2"]
    kinds = [f["class"] for f in elements.of("figure")]
    assert kinds == ["volcano", "qq", "histogram", "manhattan", "qq", "histogram", "manhattan"]
    assert all(image["alt"] for image in elements.of("img"))
    # Nothing is fetched, and the tables can be read without the script.
    links = [a.get(key) for _, a in elements.found for key in ("src", "href") if a.get(key)]
    assert all(link.startswith(("data:", "#")) for link in links if link)
    assert "url(" not in page and "@import" not in page
    assert all("hidden" in form for form in elements.of("form"))
    assert page.count("<td>cg00000001</td>") == 2


def test_lambda_is_called_genomic_above_ten_thousand_features_only() -> None:
    assert "genomic inflation (λ) =" in render_association(association(10_001), {}, None)
    assert "10,000 features: not a genomic estimate" in render_association(association(10_000), {}, None)


def test_what_users_wrote_is_escaped_everywhere() -> None:
    bad = '"><script>alert(1)</script><img src=x onerror=alert(2)>'

    def poisoned(value: Any) -> Any:
        if isinstance(value, dict):
            return {(k if k in known else k + bad): poisoned(v) for k, v in value.items()}
        if isinstance(value, list):
            return [poisoned(v) for v in value]
        return value + bad if isinstance(value, str) else value

    known = {"reference", "title", "design", "coefficients", "contrasts", "cohort", "assay", "quantity", "samples"}
    known |= {"features", "warnings", "companions", "spec", "run", "label", "contrast", "lambda", "reason", "count"}
    known |= {"dropped", "name", "path", "id", "fingerprint", "libraries", "block", "column", "groups", "test"}
    meta = poisoned(dict(META) | {"groups": {"disease": {"healthy": 3}}, "effect_label": "$x_1$"})
    table = association(50, contrast=CONTRAST + bad)
    table["feature_id"] = table["feature_id"] + bad
    features = annotation(50).reset_index()
    features["feature_id"] = features["feature_id"] + bad
    features["gene_symbol"] = "$G$" + bad
    features["chromosome"] = "1" + bad
    page = render_association(table, meta, features)
    elements = Elements(page)
    assert len(elements.of("script")) == 1
    assert not any(key.startswith("on") for _, attributes in elements.found for key in attributes)
    assert all(str(image["src"]).startswith("data:image/svg+xml;base64,") for image in elements.of("img"))
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    "change",
    [
        {"p_value": np.nan, "q_value": np.nan},
        {"p_value": 0.0, "q_value": 0.0, "effect": 0.0},
        {"effect": np.nan},
        {"effect": np.inf},
        {"p_value": 1.0, "q_value": 1.0},
    ],
)
def test_odd_tables_still_make_a_page(change: dict[str, float]) -> None:
    page = render_association(association(3, 1).assign(**change), {}, annotation(3))
    assert page.rstrip().endswith("</html>")


def test_an_empty_result_says_so() -> None:
    assert "The result holds no contrast." in render_association(association(5).iloc[:0], {}, None)


def test_many_contrasts_stay_one_small_page() -> None:
    table = pd.concat([association(200, contrast=f"c{i}") for i in range(10)])
    page = render_association(table, {}, None)
    assert "2 more contrasts are in this table only" in text_of(page)
    assert len(page) < 3e6


def test_a_million_features_make_a_small_page_quickly() -> None:
    table, features = association(1_000_000, 400), annotation(1_000_000)
    start = time.perf_counter()
    page = render_association(table, META, features)
    assert time.perf_counter() - start < 60  # about 5 s on an idle processor
    assert len(page) < 3e6
    assert "points are drawn" in page


def test_the_same_result_makes_the_same_page() -> None:
    table = association(300)
    assert render_association(table, META, annotation(300)) == render_association(table, META, annotation(300))


def fake_cohort(kind: str = "associations") -> Any:
    result = SimpleNamespace(
        kind=kind, name="ewas", version=2, meta={"assay": "methylation"}, table=lambda: association(100)
    )
    assay = SimpleNamespace(features=lambda: annotation(100))
    return SimpleNamespace(results=lambda: [], result=lambda ref: result, assay=lambda name, snapshot=None: assay)


def test_the_file_appears_whole(tmp_path: Path) -> None:
    path = write_report(fake_cohort(), "associations/ewas", tmp_path / "page.html")
    assert "associations/ewas@2" in path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_a_kind_without_a_page_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="sjd export"):
        write_report(fake_cohort("fractions"), "fractions/x", tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_search_filter_and_sort_work_in_a_browser(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium here: the table's script was not run")
    page = render_association(association(60), META, annotation(60))
    # The page's own policy would stop this second script, as it should.
    drive = """<script>
      const form = document.querySelector("form.filters"), out = [];
      const rows = "table.top tbody tr:not([hidden])";
      const shown = () => [...document.querySelectorAll(rows)].map((row) => row.cells[0].innerText);
      const type = (name, value) => { form.elements[name].value = value;
        form.dispatchEvent(new Event("input", { bubbles: true })); out.push(shown().length); };
      type("text", "ifi44l"); type("text", "");
      type("q", "0.0001"); type("effect", "99"); type("effect", ""); type("q", "");
      const head = document.querySelector("table.top th button"); head.click(); out.push(shown()[0]); head.click();
      out.push(shown()[0], document.querySelector("table.top th").getAttribute("aria-sort"));
      document.title = "driven " + out.join(" ");
    </script></body>"""
    page = re.sub(r"<meta http-equiv[^>]*>", "", page).replace("</body>", drive)
    file = tmp_path / "page.html"
    file.write_text(page, encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    command = [browser, *flags.split(), "--disable-component-update", "--disable-sync", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search("<title>driven (.*?)</title>", done.stdout)
    assert found is not None, done.stderr[-2000:]
    assert found[1] == "1 60 5 0 5 60 cg00000001 cg00000060 descending"
