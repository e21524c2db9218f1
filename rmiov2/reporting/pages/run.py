"""The page: one file that needs no network, its figures beside it as PNG, the numbers of each one click away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rmiov2.files import write_bytes
from rmiov2.reporting.html import Chapter, Front, present, render
from rmiov2.reporting.methods.figures import methods_pictures
from rmiov2.reporting.methods.reached import beside, not_whole
from rmiov2.reporting.methods.standings import verdict
from rmiov2.reporting.methods.table import INTERVALS, methods_tables
from rmiov2.reporting.pages.terms import terms
from rmiov2.reporting.run import figures as result_figures
from rmiov2.reporting.run import training_figures
from rmiov2.reporting.run.ablation_figure import ablation_picture
from rmiov2.reporting.run.results import Results, read_results
from rmiov2.reporting.run.tables import gate_rows, result_table, setting_rows, stage_rows
from rmiov2.reporting.scene import figures as scene_figures
from rmiov2.reporting.scene.attention_figure import attention_picture
from rmiov2.reporting.scene.map_figure import map_picture
from rmiov2.reporting.stress.figures import Stress, stress_pictures, stress_table
from rmiov2.reporting.style import Picture, styled
from rmiov2.reporting.tables import Table
from rmiov2.reporting.variants import worth as variants
from rmiov2.reporting.variants.figures import variants_pictures
from rmiov2.reporting.variants.findings import PRINTED_NOTE, findings_table, reproduced_table
from rmiov2.reporting.variants.table import VARIANTS_NOTE, variants_table, what_differs
from rmiov2.reporting.words import headline, measure_name

FUSIONS = "docs/paper.html says what the two fusions cost in parameters and compute (appendix D)."

STRESS_NOTE = "Brackets are 95 % intervals; the numbers of dark steps are counted and have none."


def build(root: Path, out: Path, cells: Sequence[str] = ()) -> Path:
    """Draw the run under root into the folder out; the path of out/index.html.

    cells: those of the ablation, metrics/ablate/CELL.json. The page links to the data docs that the gates draw into
    out/data_docs, there or not. The same files give the same bytes. Raises UserError that names the stage whose file is
    missing or incomplete. Methods whose seeds lie in docs/seeds are drawn beside the run.
    """
    results = read_results(root, cells)
    with styled():
        chapters = draw_chapters(results)
    for picture in (picture for chapter in chapters for picture in chapter.pictures):
        write_bytes(out / f"{picture.name}.png", picture.png)
    page = out / "index.html"
    write_bytes(page, render(front_of(results.evaluate), chapters, run_of(results)).encode())
    return page


def draw_chapters(results: Results) -> list[Chapter]:
    """Every figure that the run has the numbers for, in reading order."""
    evaluate, scene = results.evaluate, results.scene
    performance = [
        result_figures.performance_picture(evaluate),
        result_figures.true_availability_picture(evaluate),
        result_figures.auc_picture(evaluate),
        result_figures.cost_picture(results.episodes, wide=not evaluate.get("true_availability")),
    ]
    learning = [
        training_figures.learning_picture(results.learning, evaluate),
        training_figures.exploration_picture(results.pretraining, evaluate),
        training_figures.imagination_picture(results.pretraining),
        training_figures.losses_picture(results.pretraining),
        training_figures.finetune_picture(results.finetuning, results.finetune),
        ablation_picture(results.ablate, evaluate),
    ]
    note = "Brackets are 95 % intervals; the largest value of a column is bold."
    chapters = [
        Chapter("result", "Under observation loss", present(performance), (), result_tables(evaluate), note),
        stress_chapter(results.stress, "Observation loss not seen in training"),
        methods_chapter(results),
        *variants_chapters(results),
        Chapter("learning", "How the team was trained", present(learning)),
        Chapter("scene", "One episode", episode_pictures(scene)),
    ]
    return [chapter for chapter in chapters if chapter.pictures or chapter.lead]


def stress_chapter(stress: Stress | None, heading: str) -> Chapter:
    """Under loss that it was not trained on; empty where that was not played."""
    return Chapter("stress", heading, tuple(stress_pictures(stress)), (), stress_table(stress), STRESS_NOTE)


def episode_pictures(scene: Mapping[str, Any]) -> tuple[Picture, ...]:
    """Figure 13 and appendix E of the paper, of one episode."""
    return present(
        [
            map_picture(scene),
            scene_figures.series_picture(scene),
            scene_figures.error_picture(scene),
            attention_picture(scene),
            scene_figures.reward_picture(scene),
        ]
    )


def result_tables(evaluate: Mapping[str, Any]) -> tuple[Table, ...]:
    """Every mode over p_loss, both measures where there are two."""
    measure, leaking = measure_name(evaluate).capitalize(), evaluate.get("true_availability")
    lost = ", with a blind agent’s availability mask lost too" if leaking else ""
    tables = [result_table(evaluate, evaluate, f"{measure} by p_loss{lost}")]
    if leaking:
        caption = f"{measure} by p_loss, with the true availability mask given to blind agents"
        tables.append(result_table(leaking, evaluate, caption))
    return tuple(tables)


def methods_chapter(results: Results) -> Chapter:
    """This run beside the methods whose seeds were kept; empty without others."""
    methods, evaluate = beside(results), results.evaluate
    pictures = present(methods_pictures(methods, evaluate))
    tables = methods_tables(methods, results.times) if methods else ()
    lead = tuple(verdict(methods, evaluate["agent"]))
    note = f"{INTERVALS} {FUSIONS}" if "attention" in results.scene else INTERVALS
    return Chapter("beside", "Compared with other methods", pictures, lead, tables, note)


def variants_chapters(results: Results) -> list[Chapter]:
    """What each part of the method is worth, and ours beside the paper's numbers; nothing where no variant was kept."""
    found = variants.of_run(results)
    if found is None:
        return [itself_a_variant(results)] if results.variants else []
    return family_chapters(found)


def family_chapters(found: variants.Family) -> list[Chapter]:
    """The same of a method and its variants."""
    tables = (findings_table(found), variants_table(found))
    printed = (reproduced_table(found),) if found.whole.evaluate["measure"] == "win_rate" else ()
    pictures = present(variants_pictures(found))
    return [
        Chapter("worth", "What each part is worth", pictures, (), tables, VARIANTS_NOTE),
        Chapter("reproduced", "What we reproduce", (), what_differs(found), printed, PRINTED_NOTE),
    ]


def itself_a_variant(results: Results) -> Chapter:
    """Why nothing is said of parts; empty where the run is the whole method."""
    told = not_whole(results)
    why = f"This run is not the whole method: {told}. It is therefore not compared with the variants that were kept."
    return Chapter("worth", "What each part is worth", (), (why,) if told else ())


def front_of(evaluate: Mapping[str, Any]) -> Front:
    """What stands above and below the page of a run."""
    return Front(
        kicker=f"{evaluate['agent']} · {evaluate['env']}",
        title="Acting when observations are lost",
        headline=headline(evaluate),
        terms=terms(evaluate),
        source="the files of the run and of the seeds that are kept in docs/seeds",
    )


def run_of(results: Results) -> dict[str, Any]:
    """How it was run, in rows."""
    return {"settings": setting_rows(results), "stages": stage_rows(results), "gates": gate_rows(results)}
