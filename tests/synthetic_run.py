"""A run's files with invented but lifelike numbers, as the stages write them: what the tests of the page draw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas

CELLS = ["0.0", "0.25", "0.5"]
GRID = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
SMAX_CURVES = {
    "completion": [0.81, 0.78, 0.69, 0.52, 0.31, 0.12],
    "completion_untuned": [0.81, 0.42, 0.15, 0.04, 0.01, 0.0],
    "zeros": [0.81, 0.52, 0.21, 0.05, 0.0, 0.0],
    "last_seen": [0.81, 0.44, 0.16, 0.03, 0.01, 0.0],
    "open_loop": [0.02] * 6,
}
ROBOT_CURVES = {
    "completion": [2.61, 2.44, 2.15, 1.72, 0.95, -0.2],
    "zeros": [2.61, 1.31, 0.44, -0.02, -0.31, -0.52],
    "last_seen": [2.61, 1.95, 1.12, 0.38, -0.11, -0.49],
    "open_loop": [-0.12] * 6,
}


def write_run(root: Path, kind: str = "smax", seed: int = 0) -> Path:
    """A run's files as the stages write them, with invented but lifelike numbers."""
    generator = np.random.default_rng(seed)
    for folder in ("metrics", "plots", "results"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    write_metrics(root, kind, generator)
    write_plots(root, generator)
    scene = smax_scene(generator) if kind == "smax" else robot_scene(generator)
    (root / "results/scene.json").write_text(json.dumps(scene))
    write_episodes(root, generator)
    write_ablation(root)
    return root


def write_ablation(root: Path) -> None:
    (root / "metrics/ablate").mkdir()
    for cell, auc, l_rec in zip(CELLS, (0.2, 0.33, 0.41), (3.9, 1.1, 0.8), strict=True):
        record = {"p_mask": float(cell), "updates": 400, "episodes": 200, "l_rec": {"before": 4.02, "after": l_rec}}
        record |= {"auc": auc, "auc_ci95": [auc - 0.02, auc + 0.02]}
        (root / f"metrics/ablate/{cell}.json").write_text(json.dumps(record))


def evaluation(kind: str, generator: np.random.Generator, leaking: bool = False) -> dict[str, Any]:
    half, top = (0.045, 1.0) if kind == "smax" else (0.15, np.inf)
    bottom = 0.0 if kind == "smax" else -np.inf
    curves = {mode: np.asarray(curve) for mode, curve in (SMAX_CURVES if kind == "smax" else ROBOT_CURVES).items()}
    if leaking:
        curves["zeros"], curves["completion"] = np.linspace(0.81, 0.5, 6), np.linspace(0.81, 0.56, 6)
    noisy = {m: np.clip(curve + generator.normal(0, half / 4, 6), bottom, top) for m, curve in curves.items()}
    auc = {mode: float(np.trapezoid(curve, GRID)) for mode, curve in noisy.items()}
    band = {m: np.clip(np.stack([c - half, c + half], -1), bottom, top).tolist() for m, c in noisy.items()}
    return {
        "performance": {mode: curve.tolist() for mode, curve in noisy.items()},
        "ci95": band,
        "auc": auc,
        "auc_ci95": {mode: [value - half / 3, value + half / 3] for mode, value in auc.items()},
    }


def write_metrics(root: Path, kind: str, generator: np.random.Generator) -> None:
    common = {"env": "smax/3m" if kind == "smax" else "mamujoco/HalfCheetah-2x3", "agent": "rmiov2"}
    measure = "win_rate" if kind == "smax" else "step_return"
    evaluate = {**common, "measure": measure, "episodes": 400, "p_loss": GRID, "wall_s": 310.2,
                "random": 0.013 if kind == "smax" else -0.31, **evaluation(kind, generator)}  # fmt: skip
    if kind == "smax":
        evaluate["true_availability"] = evaluation(kind, generator, leaking=True)
    run = {**common, "preset": "small", "seeds": [0]}
    pretrain = {**run, "env_steps": 60000, "updates": 9500, "wall_s": 1620.5}
    finetune = {**run, "env_steps": 2000, "updates": 1500, "wall_s": 190.0, "l_rec": {"before": 4.02, "after": 0.81}}
    collect = {**run, "env_steps": 2000, "updates": 0, "wall_s": 21.0}
    for name, metrics in (("collect", collect), ("pretrain", pretrain), ("finetune", finetune), ("evaluate", evaluate)):
        (root / f"metrics/{name}.json").write_text(json.dumps(metrics))
    (root / "metrics/gates").mkdir(exist_ok=True)
    for name, met in (("collect", 29), ("replay", 28)):
        receipt = {"expectations": 29, "met": met, "warnings": ["open_pieces_go_on"][: 29 - met]}
        (root / f"metrics/gates/{name}.json").write_text(json.dumps(receipt))


def write_plots(root: Path, generator: np.random.Generator) -> None:
    steps = np.arange(2000, 60001, 2000)
    win = 0.8 / (1 + np.exp(-(steps - 22000) / 5000)) + generator.normal(0, 0.02, len(steps))
    win = np.clip(win, 0, 1)
    table = {"env_steps": steps, "performance": win, "lo": np.clip(win - 0.08, 0, 1), "hi": np.clip(win + 0.08, 0, 1)}
    pandas.DataFrame({**table, "episodes": 128}).to_csv(root / "plots/learning.csv", index=False)
    rounds = np.arange(2000, 60001, 250)
    fade = np.exp(-(rounds - 2000) / 9000)
    noise = lambda: np.exp(generator.normal(0, 0.18, len(rounds)))  # noqa: E731
    real = 2 / (1 + np.exp(-(rounds - 22000) / 5000)) * noise()
    rows = {"env_steps": rounds, "updates": rounds // 8, "loss_obs": (0.9 * fade + 0.06) * noise(),
            "loss_rew": (0.05 * fade + 0.004) * noise(), "loss_avail": (1.4 * fade + 0.1) * noise(),
            "loss_con": (0.2 * fade + 0.012) * noise(), "loss_kl": (0.4 * fade + 0.9) * noise(),
            "imagined_return": real * 1.08 * noise(), "real_return": real, "entropy": 0.3 + 0.9 * fade,
            "won": np.round(0.6 * (1 - fade), 1)}  # fmt: skip
    pandas.DataFrame(rows).to_csv(root / "plots/pretrain.csv", index=False)
    updates = np.arange(0, 1501, 10)
    l_rec = np.where(updates % 100 == 0, 0.8 + 3.22 * np.exp(-updates / 250), np.nan)
    tuned = {"update": updates, "loss_model": 1 / (1 + updates / 100), "loss_obs": 0.5, "loss_kl": 1.0, "l_rec": l_rec}
    pandas.DataFrame(tuned).to_csv(root / "plots/finetune.csv", index=False)


def write_episodes(root: Path, generator: np.random.Generator) -> None:
    p_loss = np.repeat(GRID, 40)
    length = generator.integers(18, 40, len(p_loss))
    messages = generator.binomial(length, 1 - (1 - p_loss) ** 3) * 3
    rows = {"agent": "rmiov2", "env": "smax/3m", "seed": 0, "mode": "completion", "pattern": "independent",
            "p_loss": p_loss, "episode": np.arange(len(p_loss)), "won": True, "return": 1.0, "length": length,
            "messages": messages, "bytes": messages * 520}  # fmt: skip
    frame = pandas.DataFrame(rows)
    frame = pandas.concat([frame, frame.assign(mode="zeros", messages=0, bytes=0)]).assign(availability="lost")
    frame.to_parquet(root / "results/episodes.parquet")


def smax_scene(generator: np.random.Generator, steps: int = 34, agents: int = 3) -> dict[str, Any]:
    time = np.arange(steps)[:, None]
    start = np.array([[9, 14], [9, 16], [9, 18], [23, 14], [23, 16], [23, 18]], dtype=float)
    close = np.array([[5, 0.3], [5.4, 0], [4.6, -0.2], [-5, 0.5], [-4.2, 0], [-4.8, -0.6]])
    place = start + close * np.minimum(time[..., None] / 12, 1) + generator.normal(0, 0.12, (steps, 6, 2)).cumsum(0) / 2
    health = np.clip(1 - np.maximum(time - 10, 0) * np.array([0.03, 0.055, 0.01, 0.048, 0.06, 0.042]), 0, 1)
    seen = generator.random((steps, agents)) > 0.6
    units = [[{"x": x, "y": y, "health": h, "team": int(u >= 3), "alive": bool(h > 0)}
              for u, ((x, y), h) in enumerate(zip(place[t], health[t], strict=True))]
             for t in range(steps)]  # fmt: skip
    guess = place[:, None] + np.where(seen[..., None, None], 0, generator.normal(0, 0.7, (steps, agents, 6, 2)))

    def views(points: np.ndarray) -> list[Any]:
        return [[[{"x": x, "y": y, "health": health[t, u], "visible": bool(health[t, u] > 0 and t > 3)}
                  for u, (x, y) in enumerate(points[t, i])] for i in range(agents)] for t in range(steps)]  # fmt: skip

    truth = np.stack([place[:, 3:, 0].mean(1), health[:, 3], health[:, 4]], -1)[:, None].repeat(agents, 1)
    unsure = {
        "there": np.ones(guess.shape[:3]),
        "x": guess[..., 0],
        "y": guess[..., 1],
        "health": health[:, None] * 0.9,
        "place": np.where(seen, 0.02, 0.6)[..., None],
        "health_deviation": np.where(seen, 0, 0.1)[..., None],
    }
    spread = {name: np.broadcast_to(values, guess.shape[:3]).tolist() for name, values in unsure.items()}
    return {"env": "smax/3m", "measure": "win_rate", "kind": "smax", "won": True,
            **scene_rest(generator, seen, truth, ["enemy distance", "health of enemy 1", "health of enemy 2"]),
            "map": {"width": 32, "height": 32, "units": units, "believed": views(guess), "spread": spread,
                    "true_view": views(np.broadcast_to(place[:, None], guess.shape))}}  # fmt: skip


def without_completion(scene: dict[str, Any]) -> dict[str, Any]:
    """The scene as a team that does not complete leaves it."""
    bare = {name: value for name, value in scene.items() if name not in ("error", "messages", "attention")}
    bare["series"] = {name: scene["series"][name] for name in ("names", "truth")}
    bare["reward"] = {"raw": scene["reward"]["raw"]}
    if scene["map"]:
        bare["map"] = {name: value for name, value in scene["map"].items() if name not in ("believed", "spread")}
    return bare


def robot_scene(generator: np.random.Generator, steps: int = 240, agents: int = 2) -> dict[str, Any]:
    time = np.arange(steps)[:, None, None]
    truth = np.sin(time / np.array([6, 6.5, 4, 5]) + np.arange(agents)[:, None]) * np.array([0.8, 0.5, 4, 6])
    names = ["joint 1 angle", "joint 2 angle", "joint 1 velocity", "joint 2 velocity"]
    seen = generator.random((steps, agents)) > 0.6
    return {"env": "mamujoco/HalfCheetah-2x3", "measure": "step_return", "kind": "series", "won": False, "map": None,
            **scene_rest(generator, seen, truth, names)}  # fmt: skip


def scene_rest(generator: np.random.Generator, seen: np.ndarray, truth: np.ndarray, names: list[str]) -> dict[str, Any]:
    scale = np.where(seen, 0.03, 0.22)[..., None] * truth.std(axis=(0, 1))
    weights = np.where(seen, 1.0, 0.2)[:, None] + 0.1 * np.eye(seen.shape[1])
    raw = np.maximum(generator.normal(0, 0.03, len(seen) - 1), 0)
    raw += generator.random(len(raw)) * 0.1 * (np.arange(len(raw)) >= 10)
    raw[-1] += 1.0
    trend = np.convolve(raw, np.ones(5) / 5, mode="same")
    return {"p_loss": 0.6, "seed": 7, "agents": seen.shape[1], "seen": seen.tolist(),
            "error": np.where(seen, 0, np.abs(generator.normal(0, 0.5, seen.shape))).tolist(),
            "attention": (weights / weights.sum(-1, keepdims=True)).tolist(),
            "messages": (3 * (~seen).any(1)).cumsum().tolist(),
            "series": {"names": [names] * seen.shape[1], "truth": truth.tolist(),
                       "spread": np.broadcast_to(scale, truth.shape).tolist(),
                       "reconstruction": (truth + generator.normal(size=truth.shape) * scale).tolist()},
            "reward": {"raw": raw.tolist(), "trend": (trend * raw.sum() / trend.sum()).tolist(),
                       "half_width": np.where(np.arange(len(raw)) > len(raw) - 6, 5, 2).tolist()}}  # fmt: skip


def write_stress(root: Path, kind: str = "smax") -> dict[str, Any]:
    """metrics/stress.json as its stage writes it."""
    scale = 1.0 if kind == "smax" else 3.0
    steps, modes = [1, 2, 5, 20], {"completion": 0.9, "zeros": 0.6, "last_seen": 0.7, "open_loop": 0.0}
    curve = lambda share, xs: [0.8 * scale * share**x for x in xs]  # noqa: E731
    band = lambda values: [[value - 0.04, value + 0.04] for value in values]  # noqa: E731
    dark = {mode: curve(share, steps) for mode, share in modes.items()}
    bursty = {mode: curve(share, GRID) for mode, share in modes.items()}
    gone = {mode: 0.5 * scale * share for mode, share in modes.items()}
    summary = {
        "env": "smax/3m" if kind == "smax" else "mamujoco/HalfCheetah-2x3", "agent": "rmiov2",
        "measure": "win_rate" if kind == "smax" else "step_return", "episodes": 48,
        "full_sight": {"performance": 0.8 * scale, "ci95": [0.7, 0.9], "usual_length": 20},
        "bursty": {"p_loss": GRID, "performance": bursty, "ci95": {mode: band(c) for mode, c in bursty.items()},
                   "auc": {mode: c[2] for mode, c in bursty.items()},
                   "auc_ci95": {mode: [c[2] - 0.02, c[2] + 0.02] for mode, c in bursty.items()}},
        "one_agent": {"performance": gone, "ci95": {mode: [value, value + 0.1] for mode, value in gone.items()}},
        "blackout": {"steps": steps, "endured": {mode: [1.0, 2.0, 4.5, 12.25] for mode in modes},
                     "performance": dark, "ci95": {mode: band(c) for mode, c in dark.items()},
                     "lasts": {mode: {"steps": steps, "undecided": [5, 20] if mode == "completion" else []}
                               for mode, steps in zip(modes, (5, 1, 1, 0), strict=True)}},
        "memory": {"history": [1, 5, 20], "own": 5, "p_loss": GRID,
                   "performance": [curve(share, GRID) for share in (0.5, 0.9, 0.85)],
                   "ci95": [band(curve(share, GRID)) for share in (0.5, 0.9, 0.85)],
                   "auc": [0.6 * scale, 0.75 * scale, 0.72 * scale],
                   "auc_ci95": [[(area - 0.02) * scale, (area + 0.02) * scale] for area in (0.6, 0.75, 0.72)]},
    }  # fmt: skip
    (root / "metrics/stress.json").write_text(json.dumps(summary))
    return summary
