python train.py --data-dir photographs --val-split test --model local-dir:backbone --pretrained --device cpu \
    --num-classes 2 --opt adamw --lr 3e-4 --epochs 5 --warmup-epochs 1 --batch-size 16 --workers 2
