package kubelets

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/damask-sdn/damask/internal/kubetest"
	"github.com/damask-sdn/damask/internal/proctest"
)

const (
	// runEnv names a program that the cluster is made for.
	runEnv = "DAMASK_KUBELETS_RUN"
	// runImagesEnv names a directory with archives of images which that program's pods
	// have. There is no registry.
	runImagesEnv = "DAMASK_KUBELETS_IMAGES"
)

// TestRunAProgramFromOutside is for suites that are not the repository's: it runs a program
// on the cluster to its end, which is the test's result. The program is the cluster's
// administrator by KUBECONFIG and is on the network of the nodes, though not on one.
func TestRunAProgramFromOutside(t *testing.T) {
	program := os.Getenv(runEnv)
	if program == "" {
		t.Skipf("%s names no program", runEnv)
	}
	images := append(damaskImages(t), testArchive)
	if dir := os.Getenv(runImagesEnv); dir != "" {
		more, err := filepath.Glob(filepath.Join(dir, "*.tar"))
		if err != nil || len(more) == 0 {
			t.Fatalf("%s: there is no *.tar in %s (%v)", runImagesEnv, dir, err)
		}
		images = append(images, more...)
	}
	c := start(t, 3, images)
	c.install(t)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	write(t, kubeconfig, string(c.KubeconfigAt(t, "https://"+c.address())))
	cmd := exec.Command("nsenter", "--net="+c.underlay.Path(), "--", program)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig,
		"PATH="+kubetest.Programs(t)+string(os.PathListSeparator)+os.Getenv("PATH"))
	if err := proctest.Start(t, cmd).Err(); err != nil {
		t.Errorf("%s: %v", program, err)
	}
}
