"""Slow, obvious versions of what the library computes fast: pure Python, no code shared with it."""


def flood_fill(grid: list[list[bool]]) -> list[list[tuple[int, int]]]:
    """The 4-connected components of a grid, each a list of (y, x), in the order of their first pixel."""
    height, width = len(grid), len(grid[0])
    seen = [[False] * width for _ in range(height)]
    components = []
    for y in range(height):
        for x in range(width):
            if not grid[y][x] or seen[y][x]:
                continue
            seen[y][x] = True
            queue, component = [(y, x)], []
            while queue:
                v, u = queue.pop()
                component.append((v, u))
                for b, a in ((v - 1, u), (v + 1, u), (v, u - 1), (v, u + 1)):
                    if 0 <= b < height and 0 <= a < width and grid[b][a] and not seen[b][a]:
                        seen[b][a] = True
                        queue.append((b, a))
            components.append(component)
    return components


def box_of(component: list[tuple[int, int]]) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1, half-open."""
    ys, xs = [y for y, _ in component], [x for _, x in component]
    return min(xs), min(ys), max(xs) + 1, max(ys) + 1


def largest(components: list[list[tuple[int, int]]]) -> list[tuple[int, int]]:
    """The component with the most pixels, the first of equals; an empty list of none."""
    return max(components, key=len, default=[])


def iou(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Intersection over union of two half-open boxes; 0 where both are empty."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    union = sum(areas) - shared
    return shared / union if union else 0.0
