package kubetest

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/proctest"
)

// recorder is a test that only remembers why it ended.
type recorder struct {
	testing.TB
	skipped, failed string
}

func (r *recorder) Helper() {}
func (r *recorder) Skipf(form string, a ...any) {
	r.skipped = fmt.Sprintf(form, a...)
	runtime.Goexit()
}
func (r *recorder) Fatalf(form string, a ...any) {
	r.failed = fmt.Sprintf(form, a...)
	runtime.Goexit()
}

func TestWithoutProgramsATestSaysHowToBuildThem(t *testing.T) {
	t.Setenv(ProgramsEnv, t.TempDir())
	for _, require := range []string{"", "1"} {
		t.Setenv(proctest.RequireRealEnv, require)
		r := &recorder{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			Start(r)
		}()
		<-done
		said, silent := r.skipped, r.failed
		if require == "1" {
			said, silent = r.failed, r.skipped
		}
		if !strings.Contains(said, "make kube-binaries") || silent != "" {
			t.Errorf("%s=%q: skipped because of %q, failed because of %q", proctest.RequireRealEnv, require, r.skipped, r.failed)
		}
	}
}

func TestProgramsAreLookedForInTheRepositoryOnly(t *testing.T) {
	outside := t.TempDir()
	t.Setenv(ProgramsEnv, "")
	t.Chdir(outside)
	if dir, err := findPrograms(); err == nil || !strings.Contains(err.Error(), ProgramsEnv) {
		t.Errorf("outside of the repository: got %q, %v", dir, err)
	}
}
