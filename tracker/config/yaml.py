"""YAML files, for configurations and prompts."""

import re
from typing import Any

import yaml


def load_yaml(text: str) -> Any:
    """Plain data. Raises ValueError, which says the line; also where a key stands twice."""
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
        problem = str(error.problem or error.context)
        if "tag:yaml.org,2002:merge" in problem:
            problem = "the merge key << is not understood; write out what the maps share, or use a whole anchor"
        elif "another document" in problem:
            problem = "a second document begins; one is read"
        elif "unhashable key" in problem:
            problem = "a key is a list or a map; keys are text"
        elif problem.startswith("could not determine a constructor"):
            problem = "a value has a tag; plain text, numbers, lists and maps have none"
        raise ValueError(f"not valid YAML: {problem}{place}") from None
    except RecursionError:
        raise ValueError("not valid YAML: lists and maps are nested too deep") from None
    except yaml.YAMLError:
        raise ValueError("not valid YAML: there is a character that has no place in a text") from None


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML keeps the last of two equal keys without a word; here the second one is refused. So is what looks like a
    date or number and is none, half of a surrogate pair, and a number that YAML reads to other bases than people:
    010 is eight to it, and 1:30 ninety."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if isinstance(node, yaml.ScalarNode) and (problem := _odd_number(node)):
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        try:
            value = super().construct_object(node, deep=deep)
            if isinstance(value, str):
                value.encode()
        except UnicodeEncodeError:
            problem = "there is a character that has no place in a text"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None
        except ValueError:
            problem = f"{node.value!r} looks like a number or a date, and is none: put text in quotes"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for key in keys:
            if isinstance(key, str) and keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def _odd_number(node: yaml.ScalarNode) -> str | None:
    """What is wrong with a number that is not what it looks like."""
    if not node.tag.endswith((":int", ":float")):
        return None
    if ":" in node.value:
        return f"{node.value} is read to the base 60: write a plain number, or put text in quotes"
    padded = re.fullmatch(r"[-+]?0+([0-9_]+)", node.value)
    if padded is None or node.tag.endswith(":float"):
        return None
    return f"{node.value} is read to the base 8: write {int(padded[1])}, or put text in quotes"
