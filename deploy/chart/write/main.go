// Command write writes the Helm chart: as a directory, and packed as Helm takes it.
//
// It owns where that goes. It promises that a chart is there when it is whole, and nothing of one
// before. It must not know what is in a chart.
//
// Used by `make chart`.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/damask-sdn/damask/deploy/chart"
)

func main() {
	var r chart.Release
	deploy := flag.String("deploy", "deploy", "directory with the manifests' directories")
	out := flag.String("out", "", "directory for the chart")
	flag.StringVar(&r.Version, "version", "", "version of the sources, as git describes it")
	flag.StringVar(&r.Registry, "registry", "localhost", "what the images' names begin with")
	flag.StringVar(&r.Tag, "tag", "dev", "tag of the images")
	flag.Parse()
	archive, err := write(*deploy, *out, r)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
	fmt.Println(archive)
}

// write answers the path of the archive.
func write(deploy, out string, r chart.Release) (string, error) {
	files, err := chart.Make(deploy, r)
	if err != nil {
		return "", err
	}
	return files.Write(out)
}
