#!/bin/bash
#SBATCH --job-name=featlight
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@60
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
# Each task is one worker. Arguments before the script are sbatch's and win over the lines above; a cluster may also need
# --account and --partition. Arguments after the script are featlight's:
#   sbatch --nodes=2 --gpus-per-task=1 configs/slurm/run.sh --config configs/inception_v3.yaml --out /shared/runs/mixed_6b
#   sbatch --nodes=2 configs/slurm/run.sh --config ...      (without GPUs)
# Load modules and activate the environment before sbatch, which passes both on, or set PYTHON to its interpreter.
# A job array can make one run per layer:
#   LAYERS="Mixed_5b Mixed_5c Mixed_6a" sbatch --array=0-2 configs/slurm/run.sh --model inception_v3 --out /shared/runs/LAYER
set -u

if [ -n "${LAYERS:-}" ]; then
    read -r -a layers <<<"$LAYERS"
    layer=${layers[$SLURM_ARRAY_TASK_ID]}
    set -- "${@//LAYER/$layer}" --layer "$layer"
fi

export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" # srun does not read sbatch's --cpus-per-task since SLURM 22.05

# a worker that dies must not take the others with it
srun --kill-on-bad-exit=0 "${PYTHON:-python}" -m featlight "$@"
code=$?

# 75: stopped early; from 128 on: a worker was killed. The same job goes on from there, but not for ever.
if [ "$code" -eq 75 ] || [ "$code" -ge 128 ]; then
    if [ "${SLURM_RESTART_COUNT:-0}" -lt "${RESTARTS:-10}" ]; then
        scontrol requeue "$SLURM_JOB_ID"
    fi
fi
exit "$code"
