"""YAML files, for configurations and prompts."""

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
        elif problem.startswith("could not determine a constructor"):
            problem = "a value has a tag; plain text, numbers, lists and maps have none"
        raise ValueError(f"not valid YAML: {problem}{place}") from None
    except RecursionError:
        raise ValueError("not valid YAML: lists and maps are nested too deep") from None
    except yaml.YAMLError:
        raise ValueError("not valid YAML: there is a character that has no place in a text") from None


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML keeps the last of two equal keys without a word; here the second one is refused. So is what looks like a
    date or number and is none, and half of a surrogate pair."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
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
