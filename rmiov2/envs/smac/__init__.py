"""smac/MAP: battles of SMAC in StarCraft II itself; every game and its SMAC live in a process of their own.

adapter   what training sees: Env, its rows stepped together     game     one row's game: begun, played, begun anew
process   starting and killing a game's process, from outside    worker   that process, from inside, and its guard
battle    one StarCraft2Env, asked only what it can take         starcraft  the one module that knows smac and pysc2
"""
