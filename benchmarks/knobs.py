"""What knobs do to faces, and to photographs.

    python benchmarks/knobs.py [--bundle color] [--photographs FOLDER --sheets OUT]

Of 100 random faces, those whose mouth becomes wider, in distances between the eyes, when `smile` goes from -1.5 to 1.5: by
dlib's landmarks of the pictures that are drawn, which needs the extra [landmarks]. What every other knob moves is measured by
scripts/attributes.py and stands in the model card. With ``--photographs``, one sheet a knob: each photograph's face moved by
-1.5, as it is, and by 1.5, at 256 pixels, to be looked at, and the time that one takes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image

import morphing_faces as mf
from morphing_faces.align import cut
from morphing_faces.errors import UserError
from morphing_faces.landmarks import LEFT_EYE, RIGHT_EYE, find_landmarks
from morphing_faces.photo import Photograph, open_photograph, pictures_of
from morphing_faces.pictures import to_uint8

FACES, STEP, SIDE, ACROSS = 100, 1.5, 256, 5
MOUTH = [48, 54]  # its corners


def mouth_width(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks (n, 68, 2) -> the mouth's width in distances between the eyes, (n,)."""
    eyes = landmarks[:, LEFT_EYE].mean(1) - landmarks[:, RIGHT_EYE].mean(1)
    corners = landmarks[:, MOUTH[1]] - landmarks[:, MOUTH[0]]
    width: np.ndarray = np.linalg.norm(corners, axis=1) / np.linalg.norm(eyes, axis=1)
    return width


def moved(session: mf.Session, z: np.ndarray, name: str, amount: float) -> np.ndarray:
    """The latent of a face whose knob was moved."""
    session.show(z)
    session.knob(name, amount)
    return session.z


def smiles(model: mf.Model) -> None:
    """Print how many of the faces smile more widely."""
    session = mf.Session(model)
    latents = model.sample(FACES, seed=1)
    ends = [np.stack([moved(session, z, "smile", amount) for z in latents]) for amount in (-STEP, STEP)]
    less, more = (mouth_width(find_landmarks(to_uint8(model.decode(each)))) for each in ends)
    change = (more - less)[np.isfinite(more - less)]
    wider, middle = int((change > 0).sum()), float(np.median(change))
    print(f"smile: the mouth becomes wider on {wider} of {len(change)} faces, goal 95%, by {middle:.2f} at the median")


def sheet(photographs: list[Photograph], session: mf.Session, name: str) -> tuple[Image.Image, list[float]]:
    """Every photograph with a knob moved back, at rest and moved on; and the seconds that each moved face took."""
    rows = -(-len(photographs) // ACROSS)
    whole = Image.new("RGB", (ACROSS * (3 * SIDE + 8), rows * SIDE))
    seconds = []
    for number, photograph in enumerate(photographs):
        for column, amount in enumerate((-STEP, 0.0, STEP)):
            z = photograph.z0 if amount == 0 else moved(session, photograph.z0, name, amount)
            began = time.perf_counter()
            face = cut(photograph.at(z), photograph.frame, SIDE)
            if amount:
                seconds.append(time.perf_counter() - began)
            place = (number % ACROSS * (3 * SIDE + 8) + column * SIDE, number // ACROSS * SIDE)
            whole.paste(Image.fromarray(face), place)
    return whole, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle")
    parser.add_argument("--photographs", type=Path, help="a folder of photographs")
    parser.add_argument("--sheets", type=Path, help="the folder that sheets go into")
    parser.add_argument("--most", type=int, default=30, help="photographs")
    arguments = parser.parse_args()
    model = mf.load(arguments.bundle)
    smiles(model)
    if not (arguments.photographs and arguments.sheets):
        return
    photographs = []
    for path in pictures_of((arguments.photographs,)):
        try:
            photographs.append(open_photograph(model, path))
        except UserError as error:
            print(error)
        if len(photographs) == arguments.most:
            break
    arguments.sheets.mkdir(parents=True, exist_ok=True)
    session = mf.Session(model)
    times: list[float] = []
    for name in model.attributes:
        picture, seconds = sheet(photographs, session, name)
        picture.save(arguments.sheets / f"{name.replace(' ', '-')}.png")
        times += seconds
    hard = [f"{number} ({photograph.hard})" for number, photograph in enumerate(photographs) if photograph.hard]
    print(f"{len(photographs)} photographs; moved less: {', '.join(hard) or 'none'}")
    print(f"a photograph: {1000 * statistics.median(times):.1f} ms at the median")


if __name__ == "__main__":
    main()
