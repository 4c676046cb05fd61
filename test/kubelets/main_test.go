package kubelets

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/test/kubelets/image"
	"github.com/damask-sdn/damask/test/kubelets/machine"
)

// testImage has the programs pause and probe.
const testImage = "localhost/damask-test:dev"

// imagesEnv names the directory with Damask's images. Unset, it is where `make images`
// puts them.
const imagesEnv = "DAMASK_IMAGES"

// probeBinary is the host's program, and testArchive the archive of testImage: both are
// there before any test runs.
var probeBinary, testArchive string

// damaskImages are the archives of Damask's images.
func damaskImages(t *testing.T) []string {
	t.Helper()
	archives, err := filepath.Glob(filepath.Join(cmp.Or(os.Getenv(imagesEnv), "../../.cache/images"), "*.tar"))
	if err != nil || len(archives) == 0 {
		proctest.Lack(t, "what `make images` builds")
	}
	return archives
}

func TestMain(m *testing.M) {
	machine.Main()
	os.Exit(func() int {
		dir, remove, err := machine.TempDir()
		if err != nil {
			fmt.Println(err)
			return 1
		}
		code := 1
		if err := prepare(dir); err != nil {
			fmt.Println(err)
		} else {
			code = m.Run()
		}
		if err := remove(); err != nil {
			fmt.Println(err)
			return 1
		}
		return code
	}())
}

// prepare builds what containers of tests run.
func prepare(dir string) error {
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir, "../probe", "./pause")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs of containers: %w\n%s", err, out)
	}
	probeBinary = filepath.Join(dir, "probe")
	testArchive = filepath.Join(dir, "test.tar")
	if err := image.Write(testArchive, testImage, filepath.Join(dir, "pause"), probeBinary); err != nil {
		return fmt.Errorf("write the image of tests: %w", err)
	}
	return nil
}
