package ovshost

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func discard() hclog.Logger { return hclog.NewNullLogger() }

// oldSchema writes the schema of this Open vSwitch without a column, as an older one.
func oldSchema(t *testing.T, h *host) string {
	t.Helper()
	content, err := os.ReadFile(h.config.Schema)
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(content, &schema); err != nil {
		t.Fatal(err)
	}
	schema["version"] = "1.0.0"
	delete(schema, "cksum")
	root := schema["tables"].(map[string]any)["Open_vSwitch"].(map[string]any)["columns"].(map[string]any)
	delete(root, "dpdk_version")
	if content, err = json.Marshal(schema); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(h.dir, "old.ovsschema")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestADatabaseOfAnotherVersionIsConvertedAndKeepsWhatItHolds(t *testing.T) {
	h := newHost(t)
	if err := os.MkdirAll(filepath.Dir(h.config.Database), 0o755); err != nil {
		t.Fatal(err)
	}
	h.run(t, "ovsdb-tool", "create", h.config.Database, oldSchema(t, h))
	h.run(t, "ovsdb-tool", "transact", h.config.Database,
		`["Open_vSwitch", {"op": "insert", "table": "Open_vSwitch", "row": {"external_ids": ["map", [["kept", "yes"]]]}}]`)
	before, err := os.ReadFile(h.config.Database)
	if err != nil {
		t.Fatal(err)
	}
	h.start(t)
	h.change(t, "it runs")
	if kept := h.vsctl(t, "get", "Open_vSwitch", ".", "external_ids:kept"); kept != "yes" {
		t.Errorf("what the database held is %s", kept)
	}
	if needs := h.run(t, "ovsdb-tool", "needs-conversion", h.config.Database, h.config.Schema); needs != "no" {
		t.Errorf("needs conversion: %s", needs)
	}
	backup, err := os.ReadFile(h.config.Database + ".backup-1.0.0")
	if err != nil || string(backup) != string(before) {
		t.Errorf("the copy of the old database is not what it was: %v", err)
	}
}

func TestADatabaseThatCannotBeReadIsNotThrownAway(t *testing.T) {
	h := newHost(t)
	if err := os.MkdirAll(filepath.Dir(h.config.Database), 0o755); err != nil {
		t.Fatal(err)
	}
	const content = "somebody's file\n"
	if err := os.WriteFile(h.config.Database, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	i := h.start(t)
	if err := i.ends(t); err == nil {
		t.Error("it ended as if all was well")
	}
	if !strings.Contains(i.text(), "prepare the database") || !strings.Contains(i.text(), h.config.Database) {
		t.Errorf("it does not say what is wrong")
	}
	if left, err := os.ReadFile(h.config.Database); err != nil || string(left) != content {
		t.Errorf("the file is %q now: %v", left, err)
	}
}
