package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/damask-sdn/damask/deploy/images/fileset"
)

// nobody runs what changes nothing on its node. It is the number that images without
// a distribution use, and is nobody's on a usual machine.
const nobody = 65532

// accounts are the two users that an image can have.
var accounts = fileset.Set{
	"etc/passwd": {Mode: 0o644, Content: []byte("root:x:0:0:root:/:/sbin/nologin\n" +
		fmt.Sprintf("nobody:x:%d:%d:nobody:/:/sbin/nologin\n", nobody, nobody))},
	"etc/group": {Mode: 0o644, Content: []byte("root:x:0:\n" + fmt.Sprintf("nobody:x:%d:\n", nobody))},
}

// build makes an image: a layer of Debian's files if it has any, which stays the same
// from release to release, and one of our programs.
func (s settings) build(i image) (v1.Image, error) {
	built := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	layers := []fileset.Set{}
	if i.debian != nil {
		files, err := i.debian.Files(s.packages)
		if err != nil {
			return nil, err
		}
		layers = append(layers, files)
	}
	own := fileset.Set{}
	for name, f := range accounts {
		own[name] = f
	}
	for _, program := range i.programs {
		content, err := os.ReadFile(filepath.Join(s.programs, program))
		if err != nil {
			return nil, fmt.Errorf("%w (make build)", err)
		}
		if needs, err := fileset.Linked(content); err != nil || len(needs) > 0 {
			return nil, fmt.Errorf("%s is not a static program: it needs %v (%v)", program, needs, err)
		}
		own["usr/bin/"+program] = fileset.File{Content: content, Mode: 0o755}
	}
	for _, files := range append(layers, own) {
		layer, err := compressed(files)
		if err != nil {
			return nil, err
		}
		added := mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: s.created}, CreatedBy: "make images"}}
		if built, err = mutate.Append(built, added); err != nil {
			return nil, err
		}
	}
	return s.configure(built, i)
}

// compressed is files as a layer of an image.
func compressed(files fileset.Set) (v1.Layer, error) {
	content, err := files.Layer()
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}

// configure says who runs what in the image, and what it is.
func (s settings) configure(built v1.Image, i image) (v1.Image, error) {
	config, err := built.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Created = v1.Time{Time: s.created}
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config.Entrypoint = []string{"/usr/bin/" + i.programs[0]}
	config.Config.Env = []string{"PATH=/usr/sbin:/usr/bin"}
	config.Config.User = fmt.Sprintf("%d:%d", nobody, nobody)
	if i.root {
		config.Config.User = "0:0"
	}
	config.Config.Labels = map[string]string{
		"org.opencontainers.image.title":       i.name,
		"org.opencontainers.image.description": i.title,
		"org.opencontainers.image.version":     s.version,
	}
	return mutate.ConfigFile(built, config)
}
