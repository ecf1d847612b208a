"""What a text convention alone does to BLEU: Flickr8k's people, no model.

    python benchmarks/bleu_conventions.py --data-dir FLICKR8K [--split dev]

Caption #3 of every image is scored against its other four, under each
convention of `sat_tf.evaluation.captions`. Two orders of an image's captions: that of
Flickr8k.token.txt, and that of arctic-captions' reference files, which are
sorted longest first (in words), so that their #3 is a shorter sentence.
"""

import argparse
import pathlib

from sat_tf.evaluation import captions as metrics


def read_captions(folder, split):
    """Five captions for each image of a split, in the token file's order."""
    names = (folder / f"Flickr_8k.{split}Images.txt").read_text().split()
    captions = {name: [] for name in names}
    lines = (folder / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        key, caption = line.split("\t", 1)
        captions.get(key.split("#")[0], []).append(caption)
    return captions


def report(captions, held_out=3, meteor=False):
    """Prints a row of scores for each convention."""
    predictions = metrics.to_predictions([c[held_out] for c in captions.values()])
    others = [c[:held_out] + c[held_out + 1 :] for c in captions.values()]
    references = metrics.to_references(captions, others)
    for name in metrics.CONVENTIONS:
        scores = metrics.score(
            predictions,
            references,
            convention=name,
            meteor=meteor and name == "normalised",
        )
        bleu = " / ".join(f"{scores[f'bleu_{n}']:.1f}" for n in range(1, 5))
        print(f"  {name:10}  BLEU {bleu}  CIDEr-D {scores['cider_d']:.1f}", end="")
        print(f"  ROUGE-L {scores['rouge_l']:.1f}", end="")
        print(f"  METEOR {scores['meteor']:.1f}" if scores["meteor"] else "")


def main():
    """Parses, reads, prints both orders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=pathlib.Path, required=True)
    parser.add_argument("--split", default="dev", choices=["train", "dev", "test"])
    parser.add_argument("--meteor", action="store_true", help="METEOR too (Java)")
    options = parser.parse_args()
    captions = read_captions(options.data_dir, options.split)
    print(f"{len(captions)} images, {options.split}, the token file's order:")
    report(captions, meteor=options.meteor)
    longest_first = {
        name: sorted(group, key=lambda text: -len(text.split()))
        for name, group in captions.items()
    }
    print("sorted longest first, as arctic-captions:")
    report(longest_first, meteor=options.meteor)


if __name__ == "__main__":
    main()
