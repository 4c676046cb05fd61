package main

import (
	"archive/tar"
	"encoding/json"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Where readers look for an image's name: containerd wants the whole of it, the
// specification's own is what skopeo and others take.
const (
	containerdName = "io.containerd.image.name"
	ociName        = "org.opencontainers.image.ref.name"
)

// docker is an entry of manifest.json, by which `docker load` finds the same blobs.
type docker struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// writeArchive writes an image as an OCI archive, and answers its size in bytes. The
// file is there when it is whole.
func writeArchive(path string, built v1.Image, reference string) (int64, error) {
	out, err := os.CreateTemp(filepath.Dir(path), ".image")
	if err != nil {
		return 0, err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	w := tar.NewWriter(out)
	if err := writeLayout(w, built, reference); err != nil {
		return 0, err
	}
	if err := w.Close(); err != nil {
		return 0, err
	}
	info, err := out.Stat()
	if err != nil {
		return 0, err
	}
	if err := out.Chmod(0o644); err != nil {
		return 0, err
	}
	return info.Size(), os.Rename(out.Name(), path)
}

// writeLayout writes the files of an image layout, in an order that is always the same.
func writeLayout(w *tar.Writer, built v1.Image, reference string) error {
	index := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), mutate.IndexAddendum{
		Add: built, Descriptor: v1.Descriptor{Annotations: map[string]string{containerdName: reference, ociName: reference}},
	})
	indexContent, err := index.RawManifest()
	if err != nil {
		return err
	}
	if err := add(w, "oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	if err := add(w, "index.json", indexContent); err != nil {
		return err
	}
	digest, err := built.Digest()
	if err != nil {
		return err
	}
	manifest, err := built.RawManifest()
	if err != nil {
		return err
	}
	if err := add(w, blob(digest), manifest); err != nil {
		return err
	}
	return writeBlobs(w, built, reference)
}

// writeBlobs writes the configuration and the layers, and what Docker calls them.
func writeBlobs(w *tar.Writer, built v1.Image, reference string) error {
	name, err := built.ConfigName()
	if err != nil {
		return err
	}
	config, err := built.RawConfigFile()
	if err != nil {
		return err
	}
	if err := add(w, blob(name), config); err != nil {
		return err
	}
	entry := docker{Config: blob(name), RepoTags: []string{reference}}
	layers, err := built.Layers()
	if err != nil {
		return err
	}
	for _, layer := range layers {
		digest, err := layer.Digest()
		if err != nil {
			return err
		}
		content, err := readLayer(layer)
		if err != nil {
			return err
		}
		if err := add(w, blob(digest), content); err != nil {
			return err
		}
		entry.Layers = append(entry.Layers, blob(digest))
	}
	list, err := json.Marshal([]docker{entry})
	if err != nil {
		return err
	}
	return add(w, "manifest.json", list)
}

func readLayer(layer v1.Layer) ([]byte, error) {
	r, err := layer.Compressed()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// blob is where a layout keeps what has a digest.
func blob(digest v1.Hash) string { return "blobs/" + digest.Algorithm + "/" + digest.Hex }

// add writes a file of nobody's and of no time.
func add(w *tar.Writer, name string, content []byte) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content)), Format: tar.FormatUSTAR}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}
