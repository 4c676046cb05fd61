// Package cniinstall makes a node's container runtime use Damask.
//
// It owns the plugin's file in the runtime's directory of plugins, and the CNI
// configuration in its directory of configurations. It promises that a plugin which
// runs is never written over (a new one takes its name), that the configuration appears
// only once the agent says that the node is ready, since the runtime takes the node for
// ready then, and that nothing is taken away when it stops: pods stay, and so must the
// way to delete them. It must not touch other plugins or configurations, but for those
// whose name it is told to take.
//
// Used by damask-cni-install.
package cniinstall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// pause is between two questions whether the agent is ready.
	pause = time.Second
	// answerTimeout bounds one question.
	answerTimeout = 5 * time.Second
)

// configuration is what the runtime reads: the plugin, and what it may ask of it. A
// runtime that knows a later version of the specification than cniVersion takes the
// latest of cniVersions that it knows; containerd 1.6 knows 1.0.0, and cannot read what a
// plugin answers in a later one.
const configuration = `{
  "cniVersion": "1.0.0",
  "cniVersions": ["1.0.0", "1.1.0"],
  "name": "damask",
  "plugins": [
    {
      "type": "damask-cni",
      "capabilities": {"ips": true, "portMappings": true, "bandwidth": true, "io.kubernetes.cri.pod-annotations": true}
    }
  ]
}
`

// Install says what is installed where.
type Install struct {
	// Plugin is the plugin's program. Its name stays.
	Plugin string
	// Plugins is the runtime's directory of plugins.
	Plugins string
	// Configuration is the file that the runtime reads.
	Configuration string
	// Ready is a URL that answers 200 when the node is ready.
	Ready string
	// Aliases are names of other plugins that the plugin takes once the node is ready: a
	// runtime deletes a pod by the plugin of the name that attached it.
	Aliases []string
}

// Check says everything that is wrong with it.
func (i Install) Check() error {
	var problems []error
	for n, name := range i.Aliases {
		switch {
		case name == "" || name == "." || name == ".." || strings.ContainsRune(name, filepath.Separator):
			problems = append(problems, fmt.Errorf("alias %q is not the name of a plugin", name))
		case name == filepath.Base(i.Plugin) || slices.Contains(i.Aliases[:n], name):
			problems = append(problems, fmt.Errorf("alias %q is there twice", name))
		}
	}
	if len(i.Aliases) > 0 && i.Ready == "" {
		problems = append(problems, errors.New("an alias needs the URL that says when the node is ready: until then the name is another plugin's"))
	}
	return errors.Join(problems...)
}

// InstallPlugin puts the plugin where the runtime looks for it, unless it is there.
func (i Install) InstallPlugin(log hclog.Logger) error {
	return write(i.Plugin, filepath.Join(i.Plugins, filepath.Base(i.Plugin)), log)
}

// Configure waits until the node is ready, and then gives the plugin its further names
// and writes the configuration. It returns early, and without an error, when ctx ends.
func (i Install) Configure(ctx context.Context, log hclog.Logger) error {
	if err := i.awaitReady(ctx, log); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	// First: from the configuration on the runtime may ask for anything.
	for _, name := range i.Aliases {
		if err := write(i.Plugin, filepath.Join(i.Plugins, name), log); err != nil {
			return err
		}
	}
	return replace(i.Configuration, []byte(configuration), 0o644, log)
}

func (i Install) awaitReady(ctx context.Context, log hclog.Logger) error {
	client := http.Client{Timeout: answerTimeout}
	last := ""
	for {
		why, err := ask(ctx, &client, i.Ready)
		if err != nil || why == "" {
			return err
		}
		if why != last {
			log.Info("the node is not ready; waiting with the configuration", "why", why)
			last = why
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ask answers why the node is not ready, or nothing. An error is one that waiting does
// not mend.
func ask(ctx context.Context, client *http.Client, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return err.Error(), nil
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return "", nil
	}
	var text bytes.Buffer
	if _, err := text.ReadFrom(http.MaxBytesReader(nil, response.Body, 4096)); err != nil {
		return response.Status, nil
	}
	return text.String(), nil
}

// write copies a program.
func write(from, to string, log hclog.Logger) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return replace(to, content, 0o755, log)
}

// replace makes a file have a content. The file is the old one or the new one at every
// moment, and stays when it has the content.
func replace(to string, content []byte, mode fs.FileMode, log hclog.Logger) error {
	present, err := os.ReadFile(to)
	if err == nil && bytes.Equal(present, content) {
		return os.Chmod(to, mode)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	// Hidden: a runtime reads every file whose name ends as a configuration's does.
	f, err := os.CreateTemp(filepath.Dir(to), ".damask-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", f.Name(), err)
	}
	if err := os.Rename(f.Name(), to); err != nil {
		return err
	}
	log.Info("installed", "file", to)
	return nil
}
