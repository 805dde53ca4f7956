"""Label files of every kind, against boxes written down by hand."""

import json

import pandas as pd
import pytest

from cxr.datasets import box_files
from cxr.datasets.image_ids import parse_image_id
from cxr.errors import DataError
from cxr.imaging.geometry import Box
from stage0_bbox import labels

VIA = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
RECT = '"{""name"":""rect"",""x"":10,""y"":20,""width"":30,""height"":40}"'
COCO = {
    "images": [{"id": 7, "file_name": "some/where/a.png"}, {"id": 8, "file_name": "b.dcm"}],
    "annotations": [{"id": 1, "image_id": 7, "bbox": [10, 20, 30, 40]}, {"id": 2, "image_id": 8, "bbox": [1, 2, 3, 4]}],
}
A = Box(10, 20, 40, 60)


def coco(images: list[dict], *annotations: tuple, categories: dict | None = None) -> str:
    """A COCO file of annotations (image_id, category_id, bbox); without any, of A in image 7."""
    rows = [dict(zip(("image_id", "category_id", "bbox"), one, strict=True)) for one in annotations]
    named = [{"id": key, "name": name} for key, name in (categories or {}).items()]
    content = {"images": images, "annotations": rows or [{"image_id": 7, "bbox": [10, 20, 30, 40]}]}
    return json.dumps(content | ({"categories": named} if named else {}))


KINDS = {
    "via": (VIA + f'a.jpg,1,"{{}}",1,0,{RECT},"{{}}"\n', {"a": A}),
    "via_1": ("#" + VIA + f'a.jpg,1,"{{}}",1,0,{RECT},"{{}}"\n', {"a": A}),
    "via_silent": (VIA + 'a.jpg,1,"{}",0,0,"{}","{}"\n', {"a": None}),
    "published": ("Filename,xmin,xmax,ymin,ymax\na.png,10,40,20,60\n", {"a": A}),
    "byte_order_mark": ("\ufeffFilename,xmin,xmax,ymin,ymax\r\na.png,10,40,20,60\r\n", {"a": A}),
    "ours": (
        "Filename,xmin,xmax,ymin,ymax,score,source\na.png,10,40,20,60,1,edited\nb.png,1,4,2,6,.2,fallback\n",
        {"a": A, "b": None},
    ),
    "coco": (json.dumps(COCO), {"a": A, "b": Box(1, 2, 4, 6)}),
}


def manifest(split="train", **sizes):
    """Images of (width, height)."""
    rows = [{"image_id": key, "split": split, "width": w, "height": h} for key, (w, h) in sizes.items()]
    return pd.DataFrame(rows).set_index("image_id", drop=False)


def collect(files, frames):
    return labels.collect_labels(files, files[0].name, frames)


@pytest.mark.parametrize("kind", KINDS)
def test_a_dialect_is_recognised_by_its_content(kind, tmp_path):
    text, expected = KINDS[kind]
    path = tmp_path / "boxes.txt"
    path.write_bytes(text.encode())
    assert {parse_image_id(row.image_name): row.box for row in box_files.read_annotations(path)} == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Filename,xmin,xmax,ymin,ymax\na.png,1,2,3,4\nb.png,40,10,20,60\n", r"row 3 \(b\.png\).*empty"),
        ("Filename,xmin,xmax,ymin,ymax\na.png,1,x,3,4\n", r"row 2 \(a\.png\).*not a number"),
        ("Filename,xmin,xmax,ymin,ymax\na.png,1,2,3\n", r"row 2 \(a\.png\).*not a number"),
        ("Filename,xmin,xmax,ymin,ymax\na.png,1,inf,3,4\n", "row 2.*finite"),
        ("Filename,xmin,xmax,ymin,ymax\na.png,300,400,3,4\n", "row 2.*outside its image of 100 x 100"),
        (VIA + 'a.jpg,1,"{}",1,0,"{""cx"":1}","{}"\n', "row 2.*rectangle"),
        (VIA + 'a.jpg,1,"{}",1,0,"{broken","{}"\n', "row 2.*rectangle"),
        (json.dumps(COCO | {"annotations": [{"image_id": 3, "bbox": [1, 2, 3, 4]}]}), "annotation 1: 3 is missing"),
        (json.dumps(COCO | {"annotations": [{"image_id": 7, "bbox": [1, 2, 0, 4]}]}), "annotation 1.*empty"),
        ("{}", "no COCO JSON"), ("{", "is no JSON"), ("[1]", "no COCO JSON"), ('{"images": 1}', "no COCO JSON"),
        ('{"_via_img_metadata": [1]}', "no COCO JSON"),
        ('{"a": {"filename": "a.png", "regions": [7]}}', r"a\.png, region 1.*rectangle"),
        (coco([{"id": 7, "file_name": "a"}], (7, 1, None)), "annotation 1"), ("[" * 100_000, "is no JSON"),
        (coco([{"id": 7, "file_name": "a", "width": 9, "height": 9, "letterbox": {"size": 0}}]), "1: the letterbox"),
        ("Filename,xmin,xmax,ymin,ymax\na.png,20,180,24,164\n", r"row 2 \(a\.png\).*outside .*more than a quarter"),
        ("Filename;xmin;xmax;ymin;ymax\na.png;1,024;1,5;3;4\n", "row 2.*1,024 may mean 1024 or 1.024"),
        (coco([{"id": 7, "file_name": "a.png", "width": 50, "height": 40}]), "annotation 1.*50 x 40 .* 100 x 100,"),
        (coco([{"id": 7, "file_name": "a.png", "width": 0, "height": 40}]), "annotation 1.*is no size"),
        ("name,left,right\na,1,2\n", "no file of boxes that is known"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named(text, said, tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        collect([path], manifest(a=(100, 100), b=(100, 100)))
    assert "boxes.csv" in str(caught.value)


def test_a_lower_file_fills_in_where_the_higher_is_silent(tmp_path):
    hand, weak, third = tmp_path / "hand.csv", tmp_path / "weak.csv", tmp_path / "third.csv"
    hand.write_text(VIA + f'a.jpg,1,"{{}}",1,0,{RECT},"{{}}"\nb.jpg,1,"{{}}",0,0,"{{}}","{{}}"\n')
    weak.write_text("Filename,xmin,xmax,ymin,ymax\na.png,1,2,3,4\nb.png,5,6,7,8\nelsewhere.png,5,6,7,8\n")
    third.write_text("Filename,xmin,xmax,ymin,ymax\nb.png,1,2,3,4\nc.png,0,9,0,9\n")
    found = collect([hand, weak, third], manifest(a=(100, 100), b=(100, 100), c=(100, 100)))
    assert found.hand_boxes == {"a": A}
    assert found.weak_boxes == {"b": Box(5, 7, 6, 8), "c": Box(0, 0, 9, 9)}
    assert found.skipped_rows == {"of hand.csv without a region": 1, "of weak.csv without their training image": 1}


def test_without_the_hand_file_all_labels_are_weak(tmp_path):
    weak = tmp_path / "weak.csv"
    weak.write_text("Filename,xmin,xmax,ymin,ymax\na.png,1,2,3,4\n")
    found = labels.collect_labels([weak], "hand.csv", manifest(a=(100, 100)))
    assert (found.hand_boxes, found.weak_boxes) == ({}, {"a": Box(1, 3, 2, 4)})


def test_whole_frame_rows_of_the_published_boxes_are_no_labels(tmp_path):
    path = tmp_path / "weak.csv"
    path.write_text("Filename,xmin,xmax,ymin,ymax\na.png,0,1024,0,1024\nb.png,0,1024,0,1020\nc.png,0,1024,0,900\n")
    found = collect([path], manifest(a=(1024, 1024), b=(1024, 1024), c=(1024, 1024)))
    assert list(found.boxes) == ["c"]
    assert found.skipped_rows == {"of weak.csv that are the whole frame": 2}


def test_a_box_is_clipped_and_the_largest_of_several_is_taken(tmp_path):
    path = tmp_path / "hand.csv"
    path.write_text("Filename,xmin,xmax,ymin,ymax\na.png,5,9,5,9\na.png,-3,80,10,120\na.png,1,9,1,9\n")
    assert collect([path], manifest(a=(100, 100))).hand_boxes == {"a": Box(0, 10, 80, 100)}


@pytest.mark.parametrize(("categories", "chest"), [
    ({1: "pneumothorax", 2: "chest"}, [2]), ({1: "Pneumothorax"}, []), ({1: "box"}, [1]),
    ({1: "heart", 2: "clavicle"}, []),
    ({1: "Thorax", 2: "lung lesion"}, [1]), ({1: "hydrothorax"}, []), ({1: "chest_box", 2: "other"}, [1]),
])  # fmt: skip
def test_only_boxes_of_a_chest_are_learnt_from(tmp_path, categories, chest):
    path = tmp_path / "hand.json"
    rows = [(key, key, [10, 20, 30, 40]) for key in categories]
    path.write_text(coco([{"id": key, "file_name": f"{key}.png"} for key in categories], *rows, categories=categories))
    (tmp_path / "rest.csv").write_text("Filename,xmin,xmax,ymin,ymax\nz.png,1,2,3,4\n")
    found = collect([path, tmp_path / "rest.csv"], manifest(z=(9, 9), **{str(key): (100, 100) for key in categories}))
    assert found.hand_boxes == {str(key): A for key in chest}
    assert found.skipped_rows.total() == len(categories) - len(chest)


@pytest.mark.parametrize("box", [{"segmentation": [[1, 2, 3]]}, {"bbox": []}, {"bbox": None}, {"bbox": [1, 1, 0, 5]}])
def test_what_is_no_chest_may_have_no_box(tmp_path, box):
    path = tmp_path / "boxes.json"
    chest = {"image_id": 7, "category_id": 2, "bbox": [10, 10, 60, 70]}
    other = {"image_id": 7, "category_id": 1} | box
    content = {"images": [{"id": 7, "file_name": "a.png"}], "annotations": [other, chest]}
    content["categories"] = [{"id": 1, "name": "pneumothorax"}, {"id": 2, "name": "chest"}]
    path.write_text(json.dumps(content))
    assert collect([path], manifest(a=(100, 100))).boxes == {"a": (10, 10, 70, 80)}


def test_the_lungs_of_an_image_are_one_chest(tmp_path):
    path = tmp_path / "hand.json"
    rows = (7, 1, [10, 20, 10, 40]), (7, 2, [25, 25, 15, 35]), (7, 3, [0, 0, 100, 100])
    categories = {1: "left lung", 2: "right_lung", 3: "pneumothorax"}
    path.write_text(coco([{"id": 7, "file_name": "a.png"}], *rows, categories=categories))
    assert collect([path], manifest(a=(100, 100))).hand_boxes == {"a": A}


TENSORFLOW = "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,50,60,chest,5,10,20,30\nb.jpg,50,60,ptx,0,0,9,9\n"
VIA_JSON = {"filename": "a.png", "size": 9, "regions": [
    {"shape_attributes": {"x": 10, "y": 20, "width": 30, "height": 40}, "region_attributes": {"is": "lung"}},
    {"shape_attributes": {"x": 1, "y": 2, "width": 3, "height": 4}, "region_attributes": {"is": {"ptx": True}}},
]}  # fmt: skip
OF_TOOLS = {
    "smaller": coco([{"id": 7, "file_name": "x\\a.dcm.PNG", "width": 25, "height": 30}], (7, 1, [2.5, 5, 7.5, 10])),
    "larger": coco([{"id": 7, "file_name": "a", "width": "200", "height": 240}], (7, 1, [20, 40, 60, 80])),
    "label studio": coco([{"id": 7, "file_name": "images\\0a1b2c3d-a.png", "width": 100, "height": 120}]),
    "cvat": coco([{"id": 7, "file_name": "task%201/a.png", "width": 100, "height": 120, "license": 0}]),
    "roboflow": coco([{"id": 7, "file_name": "a_png.rf.0011aabb.jpg", "width": 100, "height": 120}]),
    "tensorflow": TENSORFLOW,
    "sizes of boxes": "Filename,xmin,xmax,ymin,ymax,width,height\na.png,10,40,20,60,30,40\n",
    "via json": json.dumps({"a.png9": VIA_JSON}),
    "via project": json.dumps({"_via_settings": {}, "_via_img_metadata": {"a.png9": VIA_JSON}}),
    "via 1 json": json.dumps({"a.png9": VIA_JSON | {"regions": {"0": VIA_JSON["regions"][0]}}}),
    "via remarks": VIA + f'a.jpg,1,"{{}}",2,0,{RECT},"{{""quality"":""good""}}"\na.jpg,1,"{{}}",2,1,{RECT},"{{}}"\n',
}


@pytest.mark.parametrize("tool", OF_TOOLS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_files_as_tools_write_them(tmp_path, tool, encoding):
    (tmp_path / "hand").write_bytes(OF_TOOLS[tool].encode(encoding))
    assert collect([tmp_path / "hand"], manifest(a=(100, 120), b=(100, 120))).hand_boxes == {"a": A}


def test_nothing_to_learn_from_says_what_to_give(tmp_path):
    with pytest.raises(DataError, match=r"boundingbox_csv/hand\.csv.*phantoms bring theirs"):
        labels.collect_labels([], "hand.csv", manifest(a=(100, 100)))
    path = tmp_path / "hand.csv"
    path.write_text("Filename,xmin,xmax,ymin,ymax\nz.png,1,2,3,4\n")
    with pytest.raises(DataError, match=r"1 rows of hand\.csv without their training image"):
        collect([path], manifest(a=(100, 100)))


def test_boxes_of_test_images_are_not_learnt_from(tmp_path):
    path = tmp_path / "hand.csv"
    path.write_text("Filename,xmin,xmax,ymin,ymax\na.png,1,2,3,4\nt.png,1,2,3,4\n")
    frames = pd.concat([manifest(a=(100, 100)), manifest("test", t=(100, 100))])
    assert list(collect([path], frames).boxes) == ["a"]
