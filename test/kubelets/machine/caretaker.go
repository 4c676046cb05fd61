package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// Roles of this program when it is started again.
const (
	roleEnv       = "DAMASK_MACHINE_ROLE"
	roleInit      = "init"
	roleCaretaker = "caretaker"
)

const (
	// careStep is how often the caretaker looks whether what ran has ended.
	careStep = 50 * time.Millisecond
	// careLimit bounds that, should the kernel not let something go.
	careLimit = time.Minute
)

// Main is what TestMain of a package with machines calls first. It returns unless this
// process was started to be a machine's first one, or its caretaker.
func Main() {
	var err error
	switch os.Getenv(roleEnv) {
	case roleInit:
		err = runInit(os.Args[1])
	case roleCaretaker:
		err = takeCare(os.Args[1], os.Stdin)
	default:
		// Threads that have been to a machine end there; the first one cannot, and so is
		// kept from going.
		runtime.LockOSThread()
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "machine:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// again is this program in another role.
func again(role, argument string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", argument)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// estate is what a machine leaves behind.
type estate struct {
	Dir     string
	Cgroups cgroups
}

// TempDir makes a directory and answers what removes it, which also happens when this
// process ends without having called it.
func TempDir() (dir string, remove func() error, err error) {
	if dir, err = os.MkdirTemp("", "damask-machine-"); err != nil {
		return "", nil, err
	}
	remove, err = estate{Dir: dir}.entrust()
	return dir, remove, err
}

// entrust starts a caretaker, which removes what is left when this process has ended in
// whatever way, or sooner, when it is told to: then it is waited for.
func (e estate) entrust() (remove func() error, err error) {
	text, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	cmd := again(roleCaretaker, string(text))
	cmd.Stderr = os.Stderr
	end, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() error { return errors.Join(end.Close(), cmd.Wait()) }, nil
}

// care makes the machine's directory and cgroups, and has somebody care for them.
func (m *Machine) care(t testing.TB, hierarchies []hierarchy) {
	t.Helper()
	var err error
	if m.dir, err = os.MkdirTemp("", "damask-machine-"); err != nil {
		t.Fatal(err)
	}
	left := estate{Dir: m.dir}
	for _, h := range hierarchies {
		left.Cgroups = append(left.Cgroups, filepath.Join(h.Parent, filepath.Base(m.dir)))
	}
	remove, err := left.entrust()
	if err != nil {
		t.Fatalf("start the caretaker of machine %s: %v", m.name, err)
	}
	t.Cleanup(func() {
		if err := remove(); err != nil {
			t.Errorf("take machine %s down: %v", m.name, err)
		}
	})
	if m.cgroups, err = makeCgroups(hierarchies, filepath.Base(m.dir)); err != nil {
		t.Fatalf("make cgroups of machine %s: %v", m.name, err)
	}
}

// takeCare waits until the test has ended, and then until nothing of the machine runs.
func takeCare(argument string, test io.Reader) error {
	var left estate
	if err := json.Unmarshal([]byte(argument), &left); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, test)
	limit := time.NewTimer(careLimit)
	defer limit.Stop()
	ticker := time.NewTicker(careStep)
	defer ticker.Stop()
	for {
		err := left.Cgroups.remove()
		if err == nil {
			break
		}
		select {
		case <-ticker.C:
		case <-limit.C:
			return errors.Join(err, os.RemoveAll(left.Dir))
		}
	}
	// Its mounts were there for its processes alone, and are gone with them.
	return os.RemoveAll(left.Dir)
}
