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
	etcdProgram        = "etcd"
	serverProgram      = "kube-apiserver"
	kubectlProgram     = "kubectl"
	controllersProgram = "kube-controller-manager"
	schedulerProgram   = "kube-scheduler"
)

// ProgramsEnv is the environment variable that names the directory of etcd,
// kube-apiserver, kubectl and so on. Unset, it is where `make kube-binaries` puts them, in
// the repository that the test's directory is in.
const ProgramsEnv = "DAMASK_KUBE_BINARIES"

// Programs answers the directory of the programs, among them the named ones besides
// those that every test needs, or ends the test.
func Programs(t testing.TB, named ...string) string {
	t.Helper()
	dir, err := findPrograms(named...)
	if err != nil {
		proctest.Lack(t, fmt.Sprintf("what `make kube-binaries` builds (%v)", err))
	}
	return dir
}

func findPrograms(named ...string) (string, error) {
	dir := os.Getenv(ProgramsEnv)
	if dir == "" {
		root, err := repository()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(root, ".cache", "kubernetes")
	}
	for _, program := range append([]string{etcdProgram, serverProgram, kubectlProgram}, named...) {
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
