package kubetest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/damask-sdn/damask/internal/proctest"
)

const (
	etcdProgram    = "etcd"
	serverProgram  = "kube-apiserver"
	kubectlProgram = "kubectl"
)

// ProgramsEnv is the environment variable that names the directory of etcd,
// kube-apiserver and kubectl. Unset, it is where `make kube-binaries` puts them, in
// the repository that the test's directory is in.
const ProgramsEnv = "DAMASK_KUBE_BINARIES"

// programs answers the directory of the programs, or ends the test.
func programs(t testing.TB) string {
	t.Helper()
	dir, err := findPrograms()
	if err != nil {
		proctest.Lack(t, fmt.Sprintf("what `make kube-binaries` builds (%v)", err))
	}
	return dir
}

func findPrograms() (string, error) {
	dir := os.Getenv(ProgramsEnv)
	if dir == "" {
		root, err := repository()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(root, ".cache", "kubernetes")
	}
	for _, program := range []string{etcdProgram, serverProgram, kubectlProgram} {
		if _, err := os.Stat(filepath.Join(dir, program)); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// repository answers the directory of the go.work that the working directory is
// below: a test runs in the directory of its package.
func repository() (string, error) {
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := here; ; dir = filepath.Dir(dir) {
		_, err := os.Stat(filepath.Join(dir, "go.work"))
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.work in or above %s, and %s is not set", here, ProgramsEnv)
		}
	}
}
