"""How the embedded model is made: its world, its corpus, its tokenizer, its training, its table.

`world` turns the fact tables into questions and answers, `forms` puts them into prompts, `corpus`
draws training examples, `tokenizer` and `train` build the checkpoint, `table` measures it with
the package's `engines`, and `card` writes the `figures` into its model card.
"""
