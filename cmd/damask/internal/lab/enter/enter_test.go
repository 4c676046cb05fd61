package enter_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/enter"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/labtest"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == "become" {
		fmt.Fprintln(os.Stderr, enter.Become(os.Args[2], os.Args[3:]))
		os.Exit(1)
	}
	labtest.Main(m)
}

func namespace(t *testing.T, kind string) string {
	t.Helper()
	link, err := os.Readlink("/proc/thread-self/ns/" + kind)
	if err != nil {
		t.Fatal(err)
	}
	return link
}

func TestANamedNamespaceCanBeEnteredAndTheCallerStaysWhereItIs(t *testing.T) {
	before := namespace(t, "net")
	if err := enter.NewNet("", "blue"); err != nil {
		t.Fatal(err)
	}
	if err := enter.NewNet("", "blue"); err == nil {
		t.Error("one name was given twice")
	}
	for range 10 {
		err := enter.Do(enter.Namespaces{Net: enter.NetPath("blue")}, func() error {
			if inside := namespace(t, "net"); inside == before {
				t.Error("still in the caller's namespace")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if after := namespace(t, "net"); after != before {
			t.Fatalf("the caller is in %s now", after)
		}
	}
	wrong := errors.New("wrong")
	if err := enter.Do(enter.Namespaces{Net: enter.NetPath("blue")}, func() error { return wrong }); !errors.Is(err, wrong) {
		t.Errorf("got %v, want the function's own error", err)
	}
	for range 2 {
		if err := enter.RemoveNet("", "blue"); err != nil {
			t.Fatal(err)
		}
	}
	if err := enter.Do(enter.Namespaces{Net: enter.NetPath("blue")}, func() error { return nil }); err == nil {
		t.Error("a namespace without a name was entered by it")
	}
}

func TestANamespaceIsNamedInAnotherMountNamespace(t *testing.T) {
	mounts := make(chan string)
	done := make(chan struct{})
	go func() {
		_ = enter.Do(enter.Namespaces{}, func() error {
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				return err
			}
			mounts <- fmt.Sprintf("/proc/self/task/%d/ns/mnt", machineTID(t))
			<-done
			return nil
		})
	}()
	mount := <-mounts
	defer close(done)
	if err := enter.NewNet(mount, "green"); err != nil {
		t.Fatal(err)
	}
	defer enter.RemoveNet(mount, "green")
	// The directory is shared, what is mounted on the file is not.
	if err := enter.Do(enter.Namespaces{Net: enter.NetPath("green")}, func() error { return nil }); err == nil {
		t.Error("the name works in the caller's mount namespace too")
	}
}

// machineTID is the number of this thread in /proc, which is the machine's.
func machineTID(t *testing.T) int {
	link, err := os.Readlink("/proc/thread-self")
	if err != nil {
		t.Error(err)
		return 0
	}
	var pid, tid int
	if _, err := fmt.Sscanf(link, "%d/task/%d", &pid, &tid); err != nil {
		t.Error(err)
	}
	return tid
}

func TestRunPassesArgumentsAndTheExitCode(t *testing.T) {
	if err := enter.NewNet("", "red"); err != nil {
		t.Fatal(err)
	}
	defer enter.RemoveNet("", "red")
	var out strings.Builder
	cmd := exec.Command("sh", "-c", `echo "$0" "$1"; [ -e /proc/self/fd/3 ] && echo leaked; exit 5`, "zero", "a b")
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	started := 0
	err := enter.Run(enter.Namespaces{Net: enter.NetPath("red")}, cmd, []string{"become"}, func(*os.Process) { started++ })
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 5 || started != 1 {
		t.Errorf("got %v after %d starts, want exit code 5", err, started)
	}
	// The lifeline must not leak into the program.
	if got := out.String(); got != "zero a b\n" {
		t.Errorf("got %q", got)
	}
}

func TestTheFirstThreadStaysWhereItIs(t *testing.T) {
	// Each waits in its place for all the others, so that many threads are needed.
	const places = 64
	var inside sync.WaitGroup
	inside.Add(places)
	var group errgroup.Group
	for range places {
		group.Go(func() error {
			return enter.Do(enter.Namespaces{}, func() error {
				inside.Done()
				inside.Wait()
				if unix.Gettid() == unix.Getpid() {
					return errors.New("the first thread was moved")
				}
				return nil
			})
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}
