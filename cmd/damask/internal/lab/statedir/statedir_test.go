package statedir

import (
	"errors"
	"os"
	"testing"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/labtest"
)

// The host's labs must be out of reach of these tests.
func TestMain(m *testing.M) { labtest.Main(m, "/var/lib") }

func of(t *testing.T, name string) Dir {
	t.Helper()
	d, err := Of(name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestOnlyPlainNamesNameLabs(t *testing.T) {
	for _, name := range []string{"lab1", "a", "a-b", "x2345678901234567890123456789012"} {
		if _, err := Of(name); err != nil {
			t.Errorf("%q was refused: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "A", "-a", "a-", "a b", "x23456789012345678901234567890123"} {
		if _, err := Of(name); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}

func TestANameIsTakenWhileTheLockIsHeld(t *testing.T) {
	d := of(t, "one")
	lock, stale, err := d.Create()
	if err != nil || stale {
		t.Fatalf("got stale %t, %v", stale, err)
	}
	if err := d.WritePID(lock, 4711); err != nil {
		t.Fatal(err)
	}
	if pid, err := d.PID(); err != nil || pid != 4711 {
		t.Errorf("got process %d, %v", pid, err)
	}
	if !d.Running() {
		t.Error("the lab does not run, but its lock is held")
	}
	if _, _, err := d.Create(); !errors.Is(err, ErrRunning) {
		t.Errorf("a second lab of the name: got %v, want ErrRunning", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if d.Running() || !d.Exists() {
		t.Errorf("after a crash: running %t, exists %t", d.Running(), d.Exists())
	}
	if err := os.WriteFile(d.Path("remains"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	lock, stale, err = d.Create()
	if err != nil || !stale {
		t.Fatalf("after a crash: got stale %t, %v", stale, err)
	}
	defer lock.Close()
	if _, err := os.Stat(d.Path("remains")); err == nil {
		t.Error("remains of the crashed lab are still there")
	}
}

func TestTheLastLabTakesTheRootWithIt(t *testing.T) {
	one, two := of(t, "one"), of(t, "two")
	for _, d := range []Dir{one, two} {
		if err := os.MkdirAll(d.Path("logs"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := Names(); err != nil || len(names) != 2 {
		t.Errorf("got %v, %v", names, err)
	}
	if err := one.Remove(); err != nil {
		t.Fatal(err)
	}
	if !two.Exists() {
		t.Error("the other lab's directory is gone")
	}
	if err := two.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(Root); err == nil {
		t.Errorf("%s is still there", Root)
	}
}
