"""Completion in bash, which cuts words at ``=`` and ``:``, in fish, of values with commas, and in
zsh, of names that a value follows.

Importing this makes click use them.
"""

from __future__ import annotations

import os

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    add_completion_class,
)

# bash cuts words at these, unless COMP_WORDBREAKS is changed.
_BREAKS = "=:"


class BashWords(BashComplete):
    """bash's words, put together again where it has cut them, and no space after ``name=``."""

    # What click says of a value goes on with a space; of one that goes on itself, it must not.
    source_template = BashComplete.source_template.replace(
        "    done\n\n    return 0",
        "    done\n\n"
        "    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/,] ]] && compopt -o nospace\n\n"
        "    return 0",
    )

    def get_completion_args(self) -> tuple[list[str], str]:
        words: list[str] = []
        last = int(os.environ["COMP_CWORD"])
        given = os.environ["COMP_WORDS"].split("\n")
        glued = False
        for number, word in enumerate([*given, ""][: last + 1]):
            is_break = bool(word) and not word.strip(_BREAKS)
            if words and number > 1 and (is_break or glued):
                words[-1] += word
            else:
                words.append(word)
            glued = is_break
        return words[1:-1], words[-1].strip("'\"")

    def complete(self) -> str:
        # Only what stands behind the last cut is replaced.
        _, incomplete = self.get_completion_args()
        self._cut = max(incomplete.rfind(character) for character in _BREAKS) + 1
        return super().complete()

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.type},{item.value[self._cut :]}"


class FishLines(FishComplete):
    """fish's answers, each whole: click's script cuts them at their second comma."""

    source_template = FishComplete.source_template.replace(
        'string split ","', 'string split -m 1 ","'
    )


class ZshWords(ZshComplete):
    """zsh's answers, with no space after ``name=``, and at the second TAB of a shell as well.

    Loaded from ``fpath``, click's script is the function that the first TAB calls; called once
    more, it would only name the one that it defines.
    """

    source_template = (
        ZshComplete.source_template.replace(
            "    local -a response\n", "    local -a response open open_with_descriptions\n"
        )
        .replace(
            '            if [[ "$descr" == "_" ]]; then\n',
            '            if [[ "$key" == *[=/,] && "$descr" == "_" ]]; then\n'
            '                open+=("$key")\n'
            '            elif [[ "$key" == *[=/,] ]]; then\n'
            '                open_with_descriptions+=("$key":"$descr")\n'
            '            elif [[ "$descr" == "_" ]]; then\n',
        )
        .replace(
            '    if [ -n "$completions" ]; then\n',
            '    if [ -n "$open_with_descriptions" ]; then\n'
            "        _describe -V unsorted open_with_descriptions -U -S ''\n"
            "    fi\n\n"
            '    if [ -n "$open" ]; then\n'
            "        compadd -U -S '' -V unsorted -a open\n"
            "    fi\n\n"
            '    if [ -n "$completions" ]; then\n',
        )
        .replace(
            '    %(complete_func)s "$@"\n',
            '    compdef %(complete_func)s %(prog_name)s\n    %(complete_func)s "$@"\n',
        )
    )


add_completion_class(BashWords)
add_completion_class(ZshWords)
add_completion_class(FishLines)
