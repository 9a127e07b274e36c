#!/bin/bash
# The whole study as jobs with dependencies: for every model, probe natural images, rank its heads, probe medical
# images, answer every benchmark; when all are done, score and report.
#   MODELS="..." BENCHMARKS="..." DATA=data RUNS=runs SHARDS=8 bash scripts/study.sh
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
read -ra models <<<"${MODELS:-huatuogpt-vision-7b llava-med medrega}"
read -ra benchmarks <<<"${BENCHMARKS:-vqa-rad slake path-vqa pmc-vqa omnimedvqa mmmu-med}"
runs=${RUNS:-runs}
data=${DATA:-data}
natural=${NATURAL:-coco}
medical=${MEDICAL:-vgmed}
last=$((${SHARDS:-8} - 1))
vgtool=${VGTOOL:-vgtool}
read -ra methods <<<"${METHODS:-vgrefine}"
chosen=()
for method in "${methods[@]}"; do chosen+=(--method "$method"); done

# Prints the number of the submitted job.
submit() { sbatch --parsable "$@" | cut -d';' -f1; }

ends=()
folders=()
for model in "${models[@]}"; do
    probe=(probe --model "$model" --data-root "$data")
    calibration=$(submit --array="0-$last" "$here/array.sbatch" "${probe[@]}" --benchmark "$natural" \
        --out "$runs/probe-$model-$natural")
    heads=$(submit --dependency="afterok:$calibration" --job-name=vgtool-heads --time=01:00:00 --wrap \
        "$(printf '%q ' "$vgtool" heads "$runs/probe-$model-$natural" -k 20 -o "$runs/heads-$model.json")")
    ends+=("$(submit --array="0-$last" "$here/array.sbatch" "${probe[@]}" --benchmark "$medical" \
        --out "$runs/probe-$model-$medical")")
    folders+=("$runs/probe-$model-$natural" "$runs/probe-$model-$medical")
    for benchmark in "${benchmarks[@]}"; do
        ends+=("$(submit --array="0-$last" --dependency="afterok:$heads" "$here/array.sbatch" refine --model "$model" \
            --benchmark "$benchmark" --data-root "$data" --heads "$runs/heads-$model.json" "${chosen[@]}" \
            --out "$runs/refine-$model-$benchmark")")
        folders+=("$runs/refine-$model-$benchmark")
    done
done

score=$(printf '%q ' "$vgtool" score "${folders[@]}" --format markdown)
report=$(printf '%q ' "$vgtool" report "${folders[@]}" --out "$runs/report")
all=$(IFS=:; echo "${ends[*]}")
submit --dependency="afterok:$all" --job-name=vgtool-report --time=02:00:00 \
    --wrap "$score> $(printf '%q' "$runs/tables.md") && $report"
