package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/authority"
)

// natsAt prepares a damask-nats that should listen at an address.
func natsAt(t *testing.T, listen string) *exec.Cmd {
	t.Helper()
	ca, err := authority.New(identity.DefaultTrustDomain, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.Service("nats")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files, err := ca.IssueFiles(dir, id, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "nats.yaml")
	text := fmt.Sprintf("storeDir: %s\nlisten: %s\ntls: {certificate: %s, key: %s, ca: %s}\nlog: {level: error}\n",
		filepath.Join(dir, "store"), listen, files.Certificate, files.Key, files.CA)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return exec.Command(filepath.Join(filepath.Dir(damaskBinary), "damask-nats"), "-config", config)
}
