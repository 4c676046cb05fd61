package ovshost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// prepare makes the database file fit the schema of this Open vSwitch: a new one where
// there is none, a converted one where an older or a newer Open vSwitch wrote it. No
// ovsdb-server may run on it.
func (c *Config) prepare(ctx context.Context, log hclog.Logger) error {
	if err := os.MkdirAll(filepath.Dir(c.Database), 0o755); err != nil {
		return err
	}
	if _, err := os.Stat(c.Database); errors.Is(err, os.ErrNotExist) {
		log.Info("creating the database", "database", c.Database)
		_, err := c.tool(ctx, "ovsdb-tool", "create", c.Database, c.Schema)
		return err
	} else if err != nil {
		return err
	}
	needs, err := c.tool(ctx, "ovsdb-tool", "needs-conversion", c.Database, c.Schema)
	if err != nil {
		return err
	}
	if needs != "yes" {
		return nil
	}
	return c.convert(ctx, log)
}

// convert brings the database to the schema, beside the old one: whatever goes wrong,
// the old one is there. An empty database would be a node that has forgotten its ports,
// so what cannot be converted is an error.
func (c *Config) convert(ctx context.Context, log hclog.Logger) error {
	from, err := c.tool(ctx, "ovsdb-tool", "db-version", c.Database)
	if err != nil {
		return err
	}
	backup := c.Database + ".backup-" + from
	content, err := os.ReadFile(c.Database)
	if err != nil {
		return err
	}
	if err := os.WriteFile(backup, content, 0o600); err != nil {
		return err
	}
	log.Info("converting the database", "database", c.Database, "from", from, "backup", backup)
	// Without history: records that the new schema collects as garbage would be missing
	// when later transactions name them.
	if _, err := c.tool(ctx, "ovsdb-tool", "compact", c.Database); err != nil {
		log.Warn("the database could not be compacted before its conversion", "error", err)
	}
	if _, err := c.tool(ctx, "ovsdb-tool", "convert", c.Database, c.Schema); err != nil {
		return fmt.Errorf("database of version %s, a copy is %s: %w", from, backup, err)
	}
	return nil
}

// Threads of ovs-vswitchd on a host with more processors than manyCPUs. It would take
// one for nearly each of them, and with so many they wait for one another's locks
// rather than work; the figures are those of OpenShift SDN's hosts.
const (
	manyCPUs           = 12
	handlerThreads     = "10"
	revalidatorThreads = "4"
)

// settings writes what belongs to the host, once ovsdb-server answers. What is set
// already stays, but for the versions.
func (c *Config) settings(ctx context.Context, log hclog.Logger) error {
	schema, err := c.tool(ctx, "ovsdb-tool", "schema-version", c.Schema)
	if err != nil {
		return err
	}
	version, err := c.tool(ctx, "ovs-vswitchd", "--version")
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(version, "\n") // ovs-vswitchd (Open vSwitch) 3.1.0
	fields := strings.Fields(first)
	if len(fields) == 0 {
		return errors.New("ovs-vswitchd does not say its version")
	}
	if _, err := c.vsctl(ctx, "--no-wait", "init", "--", "set", "Open_vSwitch", ".",
		"db-version="+schema, "ovs-version="+fields[len(fields)-1]); err != nil {
		return err
	}
	if c.cpus() <= manyCPUs {
		return nil
	}
	for key, threads := range map[string]string{"n-handler-threads": handlerThreads, "n-revalidator-threads": revalidatorThreads} {
		has, err := c.vsctl(ctx, "--if-exists", "get", "Open_vSwitch", ".", "other_config:"+key)
		if err != nil {
			return err
		}
		if has != "" {
			continue // the operator's, or ours of before
		}
		log.Info("limiting threads", "cpus", c.cpus(), "key", key, "threads", threads)
		if _, err := c.vsctl(ctx, "--no-wait", "set", "Open_vSwitch", ".", "other_config:"+key+"="+threads); err != nil {
			return err
		}
	}
	return nil
}
