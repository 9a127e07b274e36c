#!/bin/bash
# The whole study as jobs with dependencies: for every model, probe natural images, rank its heads, probe medical
# images, answer every benchmark; when all are done, score and report.
#   bash scripts/study.sh                      # the defaults below; each can be set in the environment
#   MODELS="llava-med" BENCHMARKS="vqa-rad slake" SHARDS=4 DATA=/data RUNS=/scratch/runs bash scripts/study.sh
# LARGE names the models that get two cards a process (34B and 40B on 80 GB cards; LARGE="" on 141 GB ones).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
read -ra models <<<"${MODELS:-huatuogpt-vision-7b huatuogpt-vision-34b llava-med llava-tri vila-m3-8b vila-m3-13b medrega}"
read -ra benchmarks <<<"${BENCHMARKS:-vqa-rad slake path-vqa pmc-vqa omnimedvqa mmmu-med}"
read -ra methods <<<"${METHODS:-vgrefine random-keep}"
large=" ${LARGE-huatuogpt-vision-34b medrega} "
runs=${RUNS:-runs}
data=${DATA:-data}
natural=${NATURAL:-coco}
medical=${MEDICAL:-vgmed}
protocol=${PROTOCOL:-paper}
last=$((${SHARDS:-8} - 1))
vgtool=${VGTOOL:-vgtool}
chosen=()
for method in "${methods[@]}"; do chosen+=(--method "$method"); done

# Prints the number of the submitted job.
submit() { sbatch --parsable --kill-on-invalid-dep=yes "$@" | cut -d';' -f1; }

# Submits a command of vgtool as a job array: array DEPENDENCY ARGUMENTS...; uses `cards` and `spread` of the model.
array() {
    local after=()
    [[ -z $1 ]] || after=(--dependency="afterok:$1")
    submit --array="0-$last" "${cards[@]}" "${after[@]}" "$here/array.sbatch" "${@:2}" "${spread[@]}"
}

ends=()
folders=()
for model in "${models[@]}"; do
    cards=() spread=()
    [[ $large != *" $model "* ]] || cards=(--gpus-per-task=2) spread=(--device-map auto)
    probe=(probe --model "$model" --data-root "$data")
    calibration=$(array "" "${probe[@]}" --benchmark "$natural" --out "$runs/probe-$model-$natural")
    heads=$(submit --dependency="afterok:$calibration" --job-name=vgtool-heads --time=01:00:00 --wrap \
        "$(printf '%q ' "$vgtool" heads "$runs/probe-$model-$natural" -k 20 -o "$runs/heads-$model.json")")
    ends+=("$heads" "$(array "" "${probe[@]}" --benchmark "$medical" --out "$runs/probe-$model-$medical")")
    folders+=("$runs/probe-$model-$natural" "$runs/probe-$model-$medical")
    for benchmark in "${benchmarks[@]}"; do
        ends+=("$(array "$heads" refine --model "$model" --benchmark "$benchmark" --protocol "$protocol" \
            --data-root "$data" --heads "$runs/heads-$model.json" "${chosen[@]}" --out "$runs/refine-$model-$benchmark")")
        folders+=("$runs/refine-$model-$benchmark")
    done
    echo "$model: submitted up to job ${ends[-1]}"
done

score=$(printf '%q ' "$vgtool" score "${folders[@]}" --format markdown)
report=$(printf '%q ' "$vgtool" report "${folders[@]}" --out "$runs/report")
all=$(IFS=:; echo "${ends[*]}")
last=$(submit --dependency="afterok:$all" --job-name=vgtool-report --time=02:00:00 \
    --wrap "$score> $(printf '%q' "$runs/tables.md") && $report")
echo "score and report: job $last, into $runs/tables.md and $runs/report"
