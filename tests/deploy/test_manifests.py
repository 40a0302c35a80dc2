"""What can be told of deploy/ without an engine or a cluster."""

import json
import os
import re
import unittest

import yaml

import archive
from harness import HERE, needs_tool, run

try:
    from kubernetes.client import models
except ImportError:
    models = None

DEPLOY = os.path.join(HERE, "..", "..", "deploy")
KUBERNETES = os.path.join(DEPLOY, "kubernetes")
COMPOSE = os.path.join(DEPLOY, "compose.yaml")
COMPOSE_TCP_INFO = os.path.join(DEPLOY, "compose.tcp-info.yaml")
DASHBOARD = os.path.join(DEPLOY, "grafana", "packet-headers.json")
SIMPLE = {"str": str, "int": int, "bool": bool, "object": (int, str)}


def load(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return yaml.safe_load(file)


def problems(kind, value, where):
    """
    What a value does not have of a type of the Kubernetes API, as its published description (in
    python3-kubernetes) has it: fields that are unknown, missing or of another type.
    """
    if kind in SIMPLE:
        if not isinstance(value, SIMPLE[kind]):
            yield f"{where}: {value!r} is no {kind}"
    elif found := re.fullmatch(r"list\[(.*)\]", kind):
        for number, item in enumerate(value):
            yield from problems(found[1], item, f"{where}[{number}]")
    elif found := re.fullmatch(r"dict\(str, (.*)\)", kind):
        for key, item in value.items():
            yield from problems(found[1], item, f"{where}.{key}")
    else:
        model = getattr(models, kind)
        attributes = {field: name for name, field in model.attribute_map.items()}
        known = {}
        for field, item in value.items():
            if field in attributes:
                known[attributes[field]] = item
                yield from problems(model.openapi_types[attributes[field]], item,
                                    f"{where}.{field}")
            else:
                yield f"{where}.{field}: {kind} has no such field"
        try:
            model(**known)
        except ValueError as error:  # what is required is missing, or no value there is
            yield f"{where}: {error}"


class Kubernetes(unittest.TestCase):

    def manifests(self):
        return {name: load(KUBERNETES, name) for name in os.listdir(KUBERNETES)
                if name != "kustomization.yaml"}

    @unittest.skipUnless(models, "python3-kubernetes isn't installed")
    def test_manifests_are_of_the_api(self):
        for name, manifest in self.manifests().items():
            version = manifest["apiVersion"].removeprefix("apps/").capitalize()
            found = list(problems(version + manifest["kind"], manifest, name))
            self.assertEqual(found, [])

    def test_all_are_applied(self):
        self.assertEqual(set(load(KUBERNETES, "kustomization.yaml")["resources"]),
                         set(self.manifests()))

    def test_kustomize_is_content(self):
        kubectl = archive.tool("kubernetes-client", "kubectl")
        kinds = [manifest["kind"] for manifest
                 in yaml.safe_load_all(run(kubectl, "kustomize", KUBERNETES))]
        self.assertEqual(sorted(kinds), ["DaemonSet", "Namespace", "ServiceAccount"])

    def test_runs_with_no_more_than_the_image_takes(self):
        pod = self.manifests()["daemonset.yaml"]["spec"]["template"]["spec"]
        self.assertEqual(f"{pod['securityContext']['runAsUser']}:"
                         f"{pod['securityContext']['runAsGroup']}", image_user())
        for container in pod["containers"] + pod["initContainers"]:
            context = container["securityContext"]
            self.assertIs(context["allowPrivilegeEscalation"], False)
            self.assertIs(context["readOnlyRootFilesystem"], True)
            self.assertEqual(context["capabilities"]["drop"], ["ALL"])
        self.assertEqual(pod["containers"][0]["securityContext"]["capabilities"]["add"],
                         ["BPF", "NET_ADMIN"])


def image_user():
    with open(os.path.join(DEPLOY, "Dockerfile"), encoding="utf-8") as file:
        return re.search(r"(?m)^USER (\S+)$", file.read())[1]


class Compose(unittest.TestCase):

    @needs_tool("docker-compose")
    def test_compose_is_content(self):
        services = {"packet-headers", "prometheus", "grafana"}
        for files, expected in (([COMPOSE], services),
                                ([COMPOSE, COMPOSE_TCP_INFO], services | {"tcp-info"})):
            arguments = [word for file in files for word in ("-f", file)]
            config = yaml.safe_load(run("docker-compose", *arguments, "config"))
            self.assertEqual(set(config["services"]), expected)

    def test_what_is_mounted_is_there(self):
        for service in load(COMPOSE)["services"].values():
            for volume in service["volumes"]:
                source = volume.split(":")[0]
                if source.startswith("."):
                    self.assertTrue(os.path.exists(os.path.join(DEPLOY, source)), source)

    def test_runs_with_no_more_than_the_image_takes(self):
        ours = load(COMPOSE)["services"]["packet-headers"]
        self.assertEqual((ours["cap_drop"], ours["cap_add"], ours["read_only"]),
                         (["ALL"], ["BPF", "NET_ADMIN"], True))
        tcp_info = load(COMPOSE_TCP_INFO)
        for name, service in (load(COMPOSE)["services"] | tcp_info["services"]).items():
            if name != "packet-headers":
                self.assertEqual((service["cap_drop"], service["security_opt"]),
                                 (["ALL"], ["no-new-privileges:true"]), name)
        self.assertEqual(tcp_info["services"]["tcp-info"]["user"], image_user())
        uid, gid = image_user().split(":")
        self.assertIn(f"uid={uid},gid={gid},",
                      tcp_info["volumes"]["tcpinfo-events"]["driver_opts"]["o"])


class Grafana(unittest.TestCase):

    def test_panels_have_their_own_places(self):
        with open(DASHBOARD, encoding="utf-8") as file:
            panels = json.load(file)["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        cells = [(x, y) for place in (panel["gridPos"] for panel in panels)
                 for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])]
        self.assertEqual(len(set(cells)), len(cells))
        self.assertLess(max(x for x, _ in cells), 24)


if __name__ == "__main__":
    unittest.main()
