"""Variants of crops: what they change, that they are the same again, and that none is measured on."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from cloud_tools.datasets.dataset import Crop, Dataset, pixel_digest
from cloud_tools.training.augmentation import MOST_CUT, Recipe, apply_recipe, vary
from cloud_tools.training.heads import Side
from cloud_tools.training.run import with_variants
from contract.errors import InputError

PLAIN = (0.0, 0.0, 0.0, 0.0)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    crops = []
    for i in range(3):
        image = np.random.default_rng(i).integers(0, 256, (40, 20, 3), np.uint8)
        assert cv2.imwrite(str(tmp_path / f"{i}.png"), image)
        crops.append(
            Crop(
                file=f"{i}.png",
                person="anna",
                frame=i,
                time_s=i / 10,
                visit="anna/0",
                split="train",
                pixels=pixel_digest(image),
            )
        )
    return Dataset(tmp_path, {}, tuple(crops))


def test_variants_are_the_same_again_and_differ_from_each_other(dataset: Dataset) -> None:
    one, two = (vary(dataset, dataset.crops, 2, seed=1) for _ in range(2))
    assert one == two
    pictures = [one.image(crop).tobytes() for crop in one.crops]
    assert pictures == [two.image(crop).tobytes() for crop in two.crops]
    assert len(set(pictures)) == 6
    assert len({crop.pixels for crop in (*one.crops, *vary(dataset, dataset.crops, 2, seed=2).crops)}) == 12


def test_variants_come_in_the_order_of_the_crops(dataset: Dataset) -> None:
    assert [crop.file for crop in vary(dataset, dataset.crops, 2, 0).crops] == ["0.png", "1.png", "2.png"] * 2


def test_a_variant_keeps_most_of_the_picture(dataset: Dataset) -> None:
    varied = vary(dataset, dataset.crops, 16, seed=0)
    for crop in varied.crops:
        height, width = varied.image(crop).shape[:2]
        assert 40 * (1 - 2 * MOST_CUT) <= height <= 40
        assert 20 * (1 - 2 * MOST_CUT) <= width <= 20


def test_a_recipe_does_what_it_says() -> None:
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    assert np.array_equal(apply_recipe(image, Recipe(False, 1.0, PLAIN)), image)
    assert np.array_equal(apply_recipe(image, Recipe(True, 1.0, PLAIN)), image[:, ::-1])
    assert apply_recipe(image, Recipe(False, 9.0, PLAIN)).max() == 255
    assert np.array_equal(apply_recipe(image, Recipe(False, 1.0, (0.25, 0.0, 0.0, 0.2))), image[1:, :4])
    assert apply_recipe(image[:1, :1], Recipe(False, 1.0, (0.9, 0.9, 0.9, 0.9))).shape == (1, 1, 3)


def test_a_changed_picture_is_refused(dataset: Dataset) -> None:
    varied = vary(dataset, dataset.crops, 1, 0)
    (dataset.folder / "1.png").write_bytes((dataset.folder / "0.png").read_bytes())
    with pytest.raises(InputError, match="not the picture"):
        varied.image(varied.crops[1])


def test_rows_bring_their_own_variants_and_no_others() -> None:
    side = Side(np.arange(4, dtype=np.float32)[:, None], np.array([0, 0, 1, 1]))
    variants = Side(np.arange(10, 18, dtype=np.float32)[:, None], np.tile(side.labels, 2))
    found = with_variants(side, variants, np.array([1, 3]))
    assert found.features.ravel().tolist() == [1, 3, 11, 13, 15, 17]
    assert found.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert with_variants(side, None).labels.tolist() == side.labels.tolist()
