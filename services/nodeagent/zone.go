package nodeagent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
)

// zone is where the node is, for services that prefer near backends: what the configuration
// says or, where that says nothing, the label of the node's Node, which may change at any
// time. What was heard of it last is kept in a file: who starts while the API server is away,
// or before it has answered, programs services as they were programmed.
type zone struct {
	file    string         // "": the configuration says it
	changed []func(string) // told of another one; they do not wait
	log     hclog.Logger

	mu   sync.Mutex
	name string // empty: none
}

// newZone answers the node's zone as far as it is known at the start.
func newZone(cfg Config, log hclog.Logger) (*zone, error) {
	z := &zone{name: cfg.Services.Zone, log: log}
	if z.name != "" || !cfg.Kubernetes.Enabled {
		return z, nil
	}
	z.file = filepath.Join(cfg.StateDir, "zone")
	kept, err := os.ReadFile(z.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the zone that the node was in: %w", err)
	}
	if z.name = strings.TrimSpace(string(kept)); !labelValue.MatchString(z.name) {
		log.Warn("what was kept of the node's zone is not the value of a label, starting without a zone", "path", z.file)
		z.name = ""
	}
	return z, nil
}

// get answers the zone; empty: none is known.
func (z *zone) get() string {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.name
}

// heard takes over what the Node's label says.
func (z *zone) heard(name string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.file == "" || name == z.name {
		return
	}
	z.log.Info("the node's zone is another", "zone", name, "was", z.name)
	z.name = name
	if err := z.keep(); err != nil {
		z.log.Warn("the node's zone is not kept for the next start", "error", err)
	}
	for _, told := range z.changed {
		told(name)
	}
}

// keep writes the zone down: whole, or not at all.
func (z *zone) keep() error {
	next := z.file + ".next"
	if err := os.WriteFile(next, []byte(z.name+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(next, z.file)
}
