"""Mazes with exactly one shortest path from start to goal, and the check that a drawn path is that one.

A maze of odd size n is n x n cells: rooms at odd places, walls or openings between them. Cells are tokens: 1 wall, 2 open,
3 start, 4 goal, and in a solution 5 on the path between them.
"""

import itertools
import random
from collections import deque

import numpy as np
from jaxtyping import Bool, Int

Mazes = Int[np.ndarray, "batch cells"]

WALL, OPEN, START, GOAL, PATH = 1, 2, 3, 4, 5


def random_mazes(size: int, n: int, seed: int = 0, loops: float = 0.1) -> tuple[Mazes, Mazes]:
    """`n` mazes and their solutions.

    A tree of rooms is carved by a random walk that goes back at dead ends, a share `loops` of the walls between rooms is then
    opened, so that there are detours, and start and goal are drawn until one path alone is shortest and it is at least `size`
    steps long. The same seed gives the same mazes everywhere.
    """
    if size < 5 or size % 2 == 0:
        raise ValueError(f"a maze of size {size}: choose an odd number from 5 on, so that walls fit around the rooms")
    rng = random.Random(f"minilm mazes {size} {seed}")
    pairs = [_random_maze(size, loops, rng) for _ in range(n)]
    shape = (0, size * size)
    mazes = np.array([maze for maze, _ in pairs], np.int8) if pairs else np.zeros(shape, np.int8)
    solutions = np.array([solution for _, solution in pairs], np.int8) if pairs else np.zeros(shape, np.int8)
    return mazes, solutions


def _random_maze(size: int, loops: float, rng: random.Random) -> tuple[list[int], list[int]]:
    while True:
        maze = _carve(size, loops, rng)
        rooms = [cell for cell in range(size * size) if maze[cell] == OPEN]
        for _ in range(10):
            start, goal = rng.sample(rooms, 2)
            path = only_shortest_path(maze, size, start, goal)
            if path is not None and len(path) > size:
                maze[start], maze[goal] = START, GOAL
                solution = list(maze)
                for cell in path[1:-1]:
                    solution[cell] = PATH
                return maze, solution


def _carve(size: int, loops: float, rng: random.Random) -> list[int]:
    maze = [WALL] * (size * size)
    here = size + 1
    maze[here], trail = OPEN, [here]
    steps = (1, -1, size, -size)
    while trail:
        here = trail[-1]
        row, column = divmod(here, size)
        beyond = [
            step
            for step, inside in zip(steps, (column < size - 2, column > 1, row < size - 2, row > 1), strict=True)
            if inside and maze[here + 2 * step] == WALL
        ]
        if beyond:
            step = rng.choice(beyond)
            maze[here + step] = maze[here + 2 * step] = OPEN
            trail.append(here + 2 * step)
        else:
            trail.pop()
    for row, column in itertools.product(range(1, size - 1), repeat=2):
        if (row + column) % 2 and rng.random() < loops:  # a place between two rooms
            maze[row * size + column] = OPEN
    return maze


def distances(maze: "list[int] | Int[np.ndarray, 'cells']", size: int, start: int) -> list[int]:
    """Steps from the start to every cell; -1 where there is no way. Walls are left out, the rim is always wall."""
    far = [-1] * (size * size)
    far[start] = 0
    waiting = deque([start])
    while waiting:
        here = waiting.popleft()
        for there in (here + 1, here - 1, here + size, here - size):
            if maze[there] != WALL and far[there] < 0:
                far[there] = far[here] + 1
                waiting.append(there)
    return far


def only_shortest_path(
    maze: "list[int] | Int[np.ndarray, 'cells']", size: int, start: int, goal: int
) -> list[int] | None:
    """The cells of the shortest path in order, if there is exactly one; None otherwise.

    A cell is on some shortest path if its distances to both ends add up to the length. Each distance from the start has at least
    one such cell, so the path is unique exactly if there are length + 1 of them.
    """
    near, far = distances(maze, size, start), distances(maze, size, goal)
    length = near[goal]
    if length < 0:
        return None
    on_path = [cell for cell in range(size * size) if near[cell] >= 0 and near[cell] + far[cell] == length]
    return sorted(on_path, key=near.__getitem__) if len(on_path) == length + 1 else None


def is_shortest_path(maze: Int[np.ndarray, "cells"], answer: Int[np.ndarray, "cells"]) -> bool:
    """Whether an answer leaves the maze as it is and marks a shortest path, by walking it: the mazes' own solution is not asked."""
    size = int(len(maze) ** 0.5)
    starts, goals = np.flatnonzero(maze == START), np.flatnonzero(maze == GOAL)
    marked = answer == PATH
    if len(starts) != 1 or len(goals) != 1 or (np.where(marked, OPEN, answer) != maze).any():
        return False
    start, goal = int(starts[0]), int(goals[0])
    only_marked = np.where(marked | (maze == START) | (maze == GOAL), OPEN, WALL)
    walked = distances(only_marked.tolist(), size, start)[goal]
    return walked == distances(maze.tolist(), size, start)[goal] and walked == int(marked.sum()) + 1


# ------------------------------------------------------------------------------------------------------------- symmetries


def maze_symmetries(size: int) -> Int[np.ndarray, "8 cells"]:
    """The eight turns and mirror images of a square: which cell comes to each place."""
    places = np.arange(size * size).reshape(size, size)
    turned = [np.rot90(places, k) for k in range(4)]
    return np.stack([grid.ravel() for grid in (*turned, *(grid.T for grid in turned))])


def swap_ends(mazes: Mazes) -> Mazes:
    """The mazes walked from goal to start: the path is the same."""
    return np.select((mazes == START, mazes == GOAL), (np.int8(GOAL), np.int8(START)), mazes)


def canonical_mazes(mazes: Mazes) -> Mazes:
    """For each maze the smallest of its sixteen disguises: eight turns and mirror images, walked either way."""
    size = int(mazes.shape[1] ** 0.5)
    both = np.stack((mazes, swap_ends(mazes)), axis=1)
    forms = both[:, :, maze_symmetries(size)].reshape(len(mazes), 16, -1)  # batch disguises cells
    keys = np.array([[form.tobytes() for form in of_one] for of_one in forms.astype(np.int8)], object)
    best = [min(range(16), key=row.__getitem__) for row in keys]
    return forms[np.arange(len(mazes)), best].astype(np.int8)


def are_shortest_paths(mazes: Mazes, answers: Mazes) -> Bool[np.ndarray, "batch"]:
    """`is_shortest_path` of each pair."""
    return np.array([is_shortest_path(*pair) for pair in zip(mazes, answers, strict=True)], bool)
