# shellcheck shell=bash
# A whole walk over the steps of a protocol, for the run.sh of every workflow to source: masks, training, evaluation.
# What is done is not done again, and what was stopped goes on where it stopped.
#
#   walk FOLDER LAST [all]                     every step from 0 to LAST, then evaluation
#   walk FOLDER LAST masks|train|eval [...]    one part, with options of wilss-masks generate, wilss-train or wilss-eval
#
#   MANIFEST   another manifest than FOLDER/data_manifest.yaml (a copy with `setting: disjoint` and a name of its own)
#   WILSS_OUT  where masks/ and runs/ are written; default: here
#   DEVICES    the GPUs to use, e.g. 0,1; default: whatever wilss finds
#   BACKBONE   the backbone's weights; default: what the manifest says
#   LAUNCH     the words of another launcher than accelerate's, e.g. "torchrun --nproc-per-node 4"
#   WORKERS    loader threads of a training process; default: 4
#
# Any option has a variable too: WILSS_TRAIN_EPOCHS=2, WILSS_GENERATE_SHARD_SIZE=256, WILSS_EVAL_SPLIT=val.

walk() {
  local folder=$1 last=$2 part=${3:-all}
  shift $(($# < 3 ? $# : 3))
  local manifest=${MANIFEST:-$folder/data_manifest.yaml}
  local name step masks runs out=${WILSS_OUT:-.}
  name=$(sed -n "s/^name: *[\"']\{0,1\}\([a-z0-9._-]*\).*/\1/p" "$manifest")
  [ -n "$name" ] || { echo "$manifest has no line like \`name: voc-15-5\`, after which masks/ and runs/ are called." >&2; return 2; }
  masks=$out/masks/$name runs=$out/runs/$name
  case $part in
    all)
      [ $# -eq 0 ] || { _walk_usage; return 2; }
      _check
      for step in $(seq 0 "$last"); do
        _masks "$step"
        _train "$step"
      done
      _eval "$last"
      ;;
    masks)
      _check
      for step in $(seq 0 "$last"); do _masks "$step" "$@"; done
      ;;
    train)
      for step in $(seq 0 "$last"); do _train "$step" "$@"; done
      ;;
    eval) _eval "$last" "$@" ;;
    *) _walk_usage; return 2 ;;
  esac
}

# Refuse to begin without the data: needs VARIABLE 'what it names'
needs() {
  if [ -z "${!1:-}" ]; then
    echo "Set $1 to $2, e.g. $1=/data/... $0" >&2
    exit 2
  fi
  export "${1?}"
}

_walk_usage() {
  echo "Usage: $0 [all | masks OPTIONS | train OPTIONS | eval OPTIONS]; options are those of wilss-masks generate," \
    "wilss-train and wilss-eval." >&2
}

# Exit code 3: done, and some images that could not be used were named and left out.
tolerating() {
  local code=0
  "$@" || code=$?
  [ "$code" -eq 3 ] || return "$code"
}

# Every image there, every tag known; once, since it reads all label maps.
_check() {
  [ -e "$masks/step-0.zarr" ] || tolerating wilss-masks manifest check --manifest "$manifest"
}

# Steps with pixel labels take them; steps with tags are made by the method, judged and drawn.
_masks() {
  local step=$1 store=$masks/step-$1.zarr devices=()
  shift
  [ -z "${DEVICES:-}" ] || devices=(--devices "$DEVICES")
  [ "$step" -eq 0 ] && devices+=(--shard-size 32) || devices+=(--keep scores --shard-size 128)
  tolerating wilss-masks generate --step "$step" --manifest "$manifest" --out "$store" "${devices[@]}" "$@"
  case " $* " in *" --part "*) return 0 ;; esac # the last part has verified it; the rest is for one process
  wilss-masks verify "$store"
  [ "$step" -gt 0 ] || return 0
  [ -e "$masks/step-$step.json" ] ||
    wilss-masks evaluate "$store" --manifest "$manifest" --ablation --json "$masks/step-$step.json"
  [ -e "$masks/step-$step.png" ] || wilss-masks sheet "$store" --manifest "$manifest" --out "$masks/step-$step.png"
}

# --threads 1: the loader's threads share the work, and a run that is resumed on more cores stays the same run.
_train() {
  local step=$1 words
  shift
  words=(--masks "$masks/step-$step.zarr" --manifest "$manifest" --out "$runs/step-$step" --resume)
  words+=(--threads 1 --workers "${WORKERS:-4}")
  if [ "$step" -gt 0 ]; then
    words+=(--from "$runs/step-$((step - 1))")
  elif [ -n "${BACKBONE:-}" ]; then
    words+=(--set "backbone_weights=$(realpath "$BACKBONE")")
  fi
  tolerating _launch "${words[@]}" "$@"
}

# One process, or one per GPU where several are named.
_launch() {
  local gpus=${DEVICES:-} launcher
  local count=$((1 + $(tr -dc , <<<"$gpus" | wc -c)))
  if [ -n "${LAUNCH:-}" ]; then
    read -ra launcher <<<"$LAUNCH"
    "${launcher[@]}" -m wilss_train "$@"
  elif [ "$count" -gt 1 ]; then
    accelerate launch --multi_gpu --num_machines 1 --num_processes "$count" --gpu_ids "$gpus" \
      --mixed_precision no --dynamo_backend no -m wilss_train "$@" # the run asks for its precision itself
  elif [ -n "$gpus" ]; then
    CUDA_VISIBLE_DEVICES=$gpus wilss-train "$@"
  else
    wilss-train "$@"
  fi
}

# As published figures are: shorter side 512, centre crop 512. Whole images stand in the reports of the runs.
_eval() {
  local last=$1
  shift
  tolerating wilss-eval "$runs/step-$last" --manifest "$manifest" --protocol "${WILSS_EVAL_PROTOCOL:-wilson}" \
    --json "$runs/eval.json" "$@"
}
