#!/bin/bash
# A data set of embeddings by a Slurm job array: each task embeds one share of the images.
#
#   sbatch slurm.sh
#
# A task that is killed is queued again and embeds only the parts that are missing.
#SBATCH --job-name=embed-photos
#SBATCH --array=0-15
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --requeue
set -euo pipefail
gsp-deploy embed model.onnx '/scratch/shards/*.tar' -o /scratch/embeddings \
  --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --workers "$SLURM_CPUS_PER_TASK"
