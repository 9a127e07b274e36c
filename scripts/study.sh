#!/bin/bash
# A study (docs/study.md) as jobs with dependencies: every step of its file is a job, a run is shared by an array.
#   bash scripts/study.sh study.yaml                     # scripts/study.yaml, the paper's study, when none is named
#   SHARDS=4 bash scripts/study.sh study.yaml
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
file=${1:-$here/study.yaml}
last=$((${SHARDS:-8} - 1))
vgtool=${VGTOOL:-vgtool}
declare -A jobs

# Prints the number of the submitted job.
submit() { sbatch --parsable --kill-on-invalid-dep=yes "$@" | cut -d';' -f1; }

steps=$("$vgtool" study "$file" --list)
while read -r name cards after line; do
    options=(--job-name="vgtool-$name")
    before=
    if [[ $after != - ]]; then
        for needed in ${after//,/ }; do before+=:${jobs[$needed]}; done
        options+=(--dependency="afterok$before")
    fi
    if ((cards > 0)); then
        ((cards == 1)) || options+=(--gpus-per-task="$cards")
        command=()
        eval "command=($line)" # a command as one would type it, quoted for a shell
        jobs[$name]=$(submit --array="0-$last" "${options[@]}" "$here/array.sbatch" "${command[@]:1}")
    else
        alone=$(printf '%q ' "$vgtool" study "$file" --step "$name")
        jobs[$name]=$(submit --time=02:00:00 "${options[@]}" --wrap "$alone")
    fi
    echo "$name: job ${jobs[$name]}"
done <<<"$steps"
