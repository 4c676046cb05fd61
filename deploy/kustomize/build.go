package kustomize

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// Overlays are the directories that can be applied.
var Overlays = []string{"small", "ha"}

// needed are the directories, below deploy, that an overlay is made of.
var needed = []string{"kustomize", "crds", "monitoring"}

// Build answers the objects of an overlay in YAML, in the order in which `kubectl apply -k`
// applies them. deploy is the path of the directory that this package's directory is in.
// Resources and components that the overlay's kustomization.yaml names in a comment
// ("../group") are put to use if with names them; such that it uses are left out if with
// names them after a minus ("-../ovs").
func Build(deploy, overlay string, with ...string) ([][]byte, error) {
	files := filesys.MakeFsInMemory()
	for _, dir := range needed {
		if err := load(files, deploy, dir); err != nil {
			return nil, fmt.Errorf("read manifests: %w", err)
		}
	}
	dir := "/kustomize/" + overlay
	if err := change(files, dir+"/kustomization.yaml", with); err != nil {
		return nil, err
	}
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy // as kubectl does: namespaces and definitions first
	built, err := krusty.MakeKustomizer(options).Run(files, dir)
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", overlay, err)
	}
	var objects [][]byte
	for _, resource := range built.Resources() {
		text, err := resource.AsYAML()
		if err != nil {
			return nil, fmt.Errorf("build %s: %s: %w", overlay, resource.CurId(), err)
		}
		objects = append(objects, text)
	}
	return objects, nil
}

// load copies what is below deploy/dir to /dir.
func load(files filesys.FileSystem, deploy, dir string) error {
	return filepath.WalkDir(filepath.Join(deploy, dir), func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(name, ".go") {
			return err
		}
		text, err := os.ReadFile(name) //nolint:gosec // of this repository
		if err != nil {
			return err
		}
		below, err := filepath.Rel(deploy, name)
		if err != nil {
			return err
		}
		return files.WriteFile(path.Join("/", filepath.ToSlash(below)), text)
	})
}

// change puts lines "# - NAME" of a file to use, and takes lines "- NAME" out.
func change(files filesys.FileSystem, file string, names []string) error {
	text, err := files.ReadFile(file)
	if err != nil {
		return err
	}
	for _, name := range names {
		from, to := "\n# - "+name+"\n", "\n- "+name+"\n"
		if used, out := strings.CutPrefix(name, "-"); out {
			from, to = "\n- "+used+"\n", "\n"
		}
		if !strings.Contains(string(text), from) {
			return fmt.Errorf("%s has no line %q", file, strings.TrimSpace(from))
		}
		text = []byte(strings.Replace(string(text), from, to, 1))
	}
	return files.WriteFile(file, text)
}
