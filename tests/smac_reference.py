"""Battles of the public StarCraft2Env, or of a double, without anything of ours between: what an adapter must equal.

python smac_reference.py SOURCE MAP SEED BATTLES OUT.npz, in a process of its own, since pysc2's protobuf wants one.
"""

import sys

import numpy as np

FIGHTING = 6  # the first action that is an attack


def choose(avail, rng, eager):
    """One available action for each agent (N,); with the probability eager, all attack the first that they reach."""
    avail = np.asarray(avail, bool)
    attacks = avail[:, FIGHTING:]
    some = np.argmax(rng.random(avail.shape) * avail, axis=1)
    waiting = np.where(avail[:, 0], 0, 1)
    fight = np.where(attacks.any(axis=1), FIGHTING + attacks.argmax(axis=1), waiting)
    return fight if rng.random() < eager else some


def reference(make, seed, battles):
    """Every row of the battles as arrays by name; act is -1 where a battle begins."""
    env, rng, rows = make(seed), np.random.default_rng(seed), []
    won = timeouts = 0

    def note(act, rew, over):
        ends = (env.battles_won > won, env.timeouts > timeouts)
        rows.append((env.get_obs(), env.get_state(), env.get_avail_actions(), rew, over, *ends, act))

    for battle in range(battles):
        env.reset()
        over = False
        note(np.full(env.get_env_info()["n_agents"], -1), 0.0, False)
        while not over:
            act = choose(env.get_avail_actions(), rng, eager=battle % 3 / 2)
            won, timeouts = env.battles_won, env.timeouts
            rew, over, _ = env.step(act)
            note(act, rew, over)
        won, timeouts = env.battles_won, env.timeouts
    env.close()
    names = ("obs", "state", "avail", "rew", "over", "won", "timeout", "act")
    return {name: np.array([row[k] for row in rows]) for k, name in enumerate(names)}


def main(source, map_name, seed, battles, out):
    from rmiov2.envs.smac.worker import source_of

    np.savez(out, **reference(source_of(source, map_name, 60).make, int(seed), int(battles)))


if __name__ == "__main__":
    main(*sys.argv[1:])
