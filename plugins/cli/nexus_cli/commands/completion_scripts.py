"""The completion scripts that shells evaluate. They call ``nexus __complete``, see `nexus_cli.commands.completion`."""

from __future__ import annotations

SCRIPTS = {
    "bash": r"""
_nexus_complete() {
    local word line="${COMP_LINE:0:COMP_POINT}"
    local current="${line##*[[:space:]]}"
    # Bash splits words at these characters and replaces only the text after the last of them.
    local before="${current%"${current##*[:=]}"}"
    COMPREPLY=()
    while IFS=$'\t' read -r word _; do
        [ -n "$word" ] && COMPREPLY+=("${word#"$before"}")
    done < <("${COMP_WORDS[0]}" __complete-line "$line" 2>/dev/null)
    [ ${#COMPREPLY[@]} -eq 1 ] && [[ "${COMPREPLY[0]}" == *= ]] && compopt -o nospace
    return 0
}
complete -o default -F _nexus_complete nexus
""",
    "zsh": r"""
#compdef nexus
_nexus() {
    local -a candidates
    local word text
    while IFS=$'\t' read -r word text; do
        [[ -n "$word" ]] && candidates+=("${word//:/\\:}:${text}")
    done < <("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( ${#candidates} )); then
        _describe -V nexus candidates
    else
        _files
    fi
}
if [[ "${funcstack[1]}" == "_nexus" ]]; then
    _nexus "$@"
else
    compdef _nexus nexus
fi
""",
    "fish": r"""
function __nexus_complete
    set -l words (commandline -opc)
    $words[1] __complete $words[2..-1] (commandline -ct) 2>/dev/null
end
complete -c nexus -f -a '(__nexus_complete)'
complete -c nexus -n 'test -z (__nexus_complete | string collect)' -F
""",
}
