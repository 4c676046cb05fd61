package ovshost

import (
	"path/filepath"
	"runtime"

	"github.com/damask-sdn/damask/internal/configfile"
	"github.com/damask-sdn/damask/internal/daemon"
)

// Config is the configuration file of damask-ovs. deploy/config/ovs.yaml documents
// every field; a test holds the two together.
type Config struct {
	Database  string     `yaml:"database"`
	Schema    string     `yaml:"schema"`
	RunDir    string     `yaml:"runDir"`
	CPUs      int        `yaml:"cpus"`
	Arguments []string   `yaml:"arguments"`
	Log       daemon.Log `yaml:"log"`
}

// maxCPUs is more than any machine has: Linux itself stops at 8,192.
const maxCPUs = 8192

// Defaults is what a file that names nothing means.
func Defaults() Config {
	return Config{
		Database:  "/etc/openvswitch/conf.db",
		Schema:    "/usr/share/openvswitch/vswitch.ovsschema",
		RunDir:    "/run/openvswitch",
		Arguments: []string{"--mlockall"},
	}
}

// Load reads a configuration file; its error names every problem with its line.
func Load(path string) (Config, error) {
	cfg := Defaults()
	if err := configfile.Load(path, &cfg, func(r *configfile.Report) { cfg.check(r) }); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

func (c *Config) check(r *configfile.Report) {
	for field, path := range map[string]string{"database": c.Database, "schema": c.Schema, "runDir": c.RunDir} {
		if !filepath.IsAbs(path) {
			r.Addf(field, "%q is not an absolute path", path)
		}
	}
	if c.CPUs < 0 || c.CPUs > maxCPUs {
		r.Addf("cpus", "%d is not between 0 and %d", c.CPUs, maxCPUs)
	}
	c.Log.Check(r.In("log"))
}

// cpus is how many processors Open vSwitch may use.
func (c *Config) cpus() int {
	if c.CPUs != 0 {
		return c.CPUs
	}
	return runtime.NumCPU()
}
