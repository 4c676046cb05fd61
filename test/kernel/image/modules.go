package image

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// drivers lead from the first program to the host's files and to its ears. Others
// are loaded when somebody asks for what they do; nobody makes /dev/net/tun so that
// it can be asked for.
var drivers = []string{"virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay", "tun"}

// loadOrder answers the paths, below the directory of modules.dep, of the named
// modules and all that they need, in an order in which they can be loaded.
func loadOrder(dep string, names []string) ([]string, error) {
	needs := map[string][]string{}
	paths := map[string]string{}
	for line := range strings.Lines(dep) {
		file, rest, found := strings.Cut(strings.TrimSpace(line), ":")
		if !found {
			continue
		}
		needs[file] = strings.Fields(rest)
		paths[moduleName(file)] = file
	}
	var order []string
	done := map[string]bool{}
	var add func(file string)
	add = func(file string) {
		if done[file] {
			return
		}
		done[file] = true
		for _, need := range needs[file] {
			add(need)
		}
		order = append(order, file)
	}
	for _, name := range names {
		file, found := paths[moduleName(name)]
		if !found {
			return nil, fmt.Errorf("the kernel has no module %s", name)
		}
		add(file)
	}
	return order, nil
}

// moduleName is how the kernel calls the module in a file: it knows no dash.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// firstModules reads the modules that the first program loads.
func firstModules(kernel *Kernel) (order []string, content map[string][]byte, err error) {
	dir := filepath.Join(kernel.Modules, "usr/lib/modules", kernel.Version)
	dep, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, nil, err
	}
	files, err := loadOrder(string(dep), drivers)
	if err != nil {
		return nil, nil, err
	}
	content = map[string][]byte{}
	for _, file := range files {
		name := path.Base(file)
		if content[name], err = os.ReadFile(filepath.Join(dir, file)); err != nil {
			return nil, nil, err
		}
		order = append(order, name)
	}
	return order, content, nil
}
