"""Helpers to build Blender materials and meshes from Python."""

import bpy
import numpy as np


def smoothstep(a, b, x):
    """0 below a, 1 above b, smooth between."""
    t = np.clip((x - a) / (b - a), 0, 1)
    return t * t * (3 - 2 * t)


class Nodes:
    """A material under construction."""

    def __init__(self, name):
        self.material = bpy.data.materials.new(name)
        self.material.use_nodes = True
        self.tree = self.material.node_tree
        self.tree.nodes.clear()
        self.output = self.tree.nodes.new("ShaderNodeOutputMaterial")

    def add(self, kind, props=None, inputs=None):
        """Add a node; inputs maps socket names or numbers to values, sockets or nodes."""
        node = self.tree.nodes.new("ShaderNode" + kind)
        for k, v in (props or {}).items():
            setattr(node, k, v)
        for k, v in (inputs or {}).items():
            self.set(node.inputs[k], v)
        return node

    def set(self, socket, value):
        """Link a socket or a node's first output, or store a plain value."""
        if isinstance(value, bpy.types.Node):
            value = value.outputs[0]
        if isinstance(value, bpy.types.NodeSocket):
            self.tree.links.new(value, socket)
        else:
            socket.default_value = value

    def math(self, op, a, b=0.0):
        """A math node."""
        return self.add("Math", {"operation": op}, {0: a, 1: b})

    def scaled(self, a, k):
        """a * k."""
        return self.math("MULTIPLY", a, k)

    def total(self, *terms):
        """The sum of several values."""
        out = terms[0]
        for t in terms[1:]:
            out = self.math("ADD", out, t)
        return out

    def image(self, picture, uv="UV"):
        """An image texture read with the named UV layer."""
        return self.add(
            "TexImage",
            {"image": picture, "interpolation": "Cubic"},
            {"Vector": self.add("UVMap", {"uv_map": uv})},
        )

    def done(self, shader):
        """Use shader as the surface and return the material."""
        self.tree.links.new(shader.outputs[0], self.output.inputs[0])
        return self.material


def float_image(name, a, color=False):
    """A Blender picture from an (h, w, 3) or (h, w) array in linear light, first row at the top."""
    if a.ndim == 2:
        a = np.repeat(a[..., None], 3, 2)
    h, w = a.shape[:2]
    im = bpy.data.images.new(name, w, h, float_buffer=True, is_data=not color)
    rgba = np.ones((h, w, 4), np.float32)
    rgba[..., :3] = a[::-1]
    im.pixels.foreach_set(rgba.ravel())
    im.pack()
    return im


def mesh_object(
    name, verts, faces, material=None, face_uvs=None, uvs=None, attributes=None, subdivide=0
):
    """A smooth-shaded object in the scene, without the vertices no face uses.

    ``attributes`` maps names to per-vertex floats.
    """
    used = sorted({i for f in faces for i in f})
    new = {old: i for i, old in enumerate(used)}
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata([tuple(verts[i]) for i in used], [], [[new[i] for i in f] for f in faces])
    if face_uvs is not None:
        layer = mesh.uv_layers.new(name="UV")
        layer.data.foreach_set(
            "uv", np.array([uvs[j] for f in face_uvs for j in f], np.float32).ravel()
        )
    for k, values in (attributes or {}).items():
        mesh.attributes.new(k, "FLOAT", "POINT").data.foreach_set(
            "value", np.asarray(values, np.float32)[used]
        )
    mesh.polygons.foreach_set("use_smooth", [True] * len(mesh.polygons))
    if material:
        mesh.materials.append(material)
    ob = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(ob)
    if subdivide:
        mod = ob.modifiers.new("subdivision", "SUBSURF")
        mod.levels = mod.render_levels = subdivide
    return ob


class Surface:
    """An object's evaluated triangles as arrays.

    ``verts`` and ``normals`` (n, 3), ``tris`` (m, 3), ``uv`` of each corner (m, 3, 2), and
    ``attr``, the named per-vertex attributes.
    """

    def __init__(self, ob, attributes=()):
        mesh = ob.evaluated_get(bpy.context.evaluated_depsgraph_get()).to_mesh()
        mesh.calc_loop_triangles()
        nv, nt, nl = len(mesh.vertices), len(mesh.loop_triangles), len(mesh.loops)
        self.verts, self.normals = np.empty(nv * 3), np.empty(nv * 3)
        mesh.vertices.foreach_get("co", self.verts)
        mesh.vertices.foreach_get("normal", self.normals)
        self.verts, self.normals = self.verts.reshape(-1, 3), self.normals.reshape(-1, 3)
        self.tris, loops = np.empty(nt * 3, int), np.empty(nt * 3, int)
        mesh.loop_triangles.foreach_get("vertices", self.tris)
        mesh.loop_triangles.foreach_get("loops", loops)
        self.tris = self.tris.reshape(-1, 3)
        self.uv = None
        if mesh.uv_layers:
            uv = np.empty(nl * 2)
            mesh.uv_layers[0].data.foreach_get("uv", uv)
            self.uv = uv.reshape(-1, 2)[loops].reshape(-1, 3, 2)
        self.attr = {}
        for k in attributes:
            a = np.empty(nv, np.float32)
            mesh.attributes[k].data.foreach_get("value", a)
            self.attr[k] = a

    def sample(self, rng, n, density):
        """n random points and normals, with the per-vertex density 0..1."""
        a, b, c = (self.verts[self.tris[:, i]] for i in range(3))
        cross = np.cross(b - a, c - a)
        area = np.linalg.norm(cross, axis=1)
        w = area * density[self.tris].max(1)
        k = rng.choice(len(w), n * 3, p=w / w.sum())
        r1, r2 = np.sqrt(rng.random(n * 3)), rng.random(n * 3)
        bary = np.stack([1 - r1, r1 * (1 - r2), r1 * r2], 1)
        d = (density[self.tris[k]] * bary).sum(1) / np.maximum(density[self.tris[k]].max(1), 1e-6)
        keep = np.where(rng.random(n * 3) < d)[0][:n]
        p = (self.verts[self.tris[k]] * bary[..., None]).sum(1)
        return p[keep], (cross / np.maximum(area, 1e-12)[:, None])[k[keep]]
