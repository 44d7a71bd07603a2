# SPDX-License-Identifier: MIT
# fish completion for thawctl(1)

function __thawctl_vms
    thawctl list --no-legend --no-pager --no-ask-password 2>/dev/null | string split -f 1 ' '
end

function __thawctl_share_names
    thawctl share list --no-legend --no-pager --no-ask-password 2>/dev/null | string split -f 1 ' '
end

function __thawctl_images
    thawctl image list --no-legend --no-pager 2>/dev/null | string split -f 1 ' '
end

function __thawctl_rootfs_names
    thawctl rootfs list --no-legend --no-pager 2>/dev/null | string split -f 1 ' '
end

function __thawctl_jobs
    thawctl jobs --no-legend --no-pager --no-ask-password 2>/dev/null | string trim | string split -f 1 ' '
end

function __thawctl_volumes
    thawctl df --no-legend --no-pager --no-ask-password 2>/dev/null | string split -f 1 ' '
end

# The words before the one being typed that are neither options nor their values.
function __thawctl_words
    set -l with_value --json --image-root --memory-backend --prefetch --load-timeout --network-override \
        --rootfs --rootfs-size --rootfs-memory --rootfs-disk --rootfs-drive \
        --prefetch-rate --replay-budget --sequential-budget --interval -i --iterations -n --runs --max \
        --state --memory --page-size --vmm --vmm-version --drive --vsock --base --pages --fetch-socket --bytes --file-handles --limit \
        --on-low-limit --memory-high --cache --sandbox --user --socket-user --socket-group --translate-uid \
        --translate-gid --threads --on-loss --unit --name --transport --timeout
    set -l skip no
    for word in (commandline -opc)[2..]
        if test $skip = yes
            set skip no
        else if contains -- $word $with_value
            set skip yes
        else if not string match -q -- '-*' $word
            echo $word
        end
    end
end

# Whether those words begin with these; several that may stand at one place have commas between.
function __thawctl_in
    set -l words (__thawctl_words)
    for index in (seq (count $argv))
        contains -- "$words[$index]" (string split , -- $argv[$index]); or return 1
    end
end

# Whether they are these and no more, but for so many names behind them.
function __thawctl_at
    set -l names $argv[1]
    set -l verbs $argv[2..]
    test (count (__thawctl_words)) -eq (math (count $verbs) + $names); and __thawctl_in $verbs
end

complete -c thawctl -f
complete -c thawctl -l json -x -a 'short pretty off' -d 'Print JSON'
complete -c thawctl -l no-pager -d 'Do not use a pager'
complete -c thawctl -l no-legend -d 'No headers and no closing lines'
complete -c thawctl -l no-ask-password -d 'Never ask for a password'
complete -c thawctl -l image-root -r -F -d 'Folder of the images'
complete -c thawctl -l version -d 'Print the version'
complete -c thawctl -s h -l help -d 'Print help'

complete -c thawctl -n '__thawctl_at 0' -a restore -d 'Restore a VM from an image'
complete -c thawctl -n '__thawctl_at 0' -a stop -d 'Stop a VM'
complete -c thawctl -n '__thawctl_at 0' -a snapshot -d 'Make an image of a VM'
complete -c thawctl -n '__thawctl_at 0' -a list -d 'List VMs'
complete -c thawctl -n '__thawctl_at 0' -a jobs -d 'List jobs at work'
complete -c thawctl -n '__thawctl_at 0' -a sessions -d 'List pager sessions'
complete -c thawctl -n '__thawctl_at 0' -a top -d 'Show what the pager does, live'
complete -c thawctl -n '__thawctl_at 0' -a metrics -d 'Print OpenMetrics text'
complete -c thawctl -n '__thawctl_at 0' -a complete -d 'Load all memory of a VM'
complete -c thawctl -n '__thawctl_at 0' -a quiesce -d 'Have the pager finish what is under way'
complete -c thawctl -n '__thawctl_at 0' -a prefetch -d 'Change what is loaded ahead'
complete -c thawctl -n '__thawctl_at 0' -a status -d 'Show one VM, or the daemons'
complete -c thawctl -n '__thawctl_at 0' -a cancel -d 'Cancel a job'
complete -c thawctl -n '__thawctl_at 0' -a policy -d 'Show or change the circuit breakers'
complete -c thawctl -n '__thawctl_at 0' -a pause -d 'Pause a running VM'
complete -c thawctl -n '__thawctl_at 0' -a resume -d 'Let a paused VM run again'
complete -c thawctl -n '__thawctl_at 0' -a doctor -d 'Check this host'
complete -c thawctl -n '__thawctl_at 0' -a image -d 'Manage images'
complete -c thawctl -n '__thawctl_at 0' -a rootfs -d "Changes of root file systems"
complete -c thawctl -n '__thawctl_at 0' -a share -d 'Manage virtiofs shares'
complete -c thawctl -n '__thawctl_at 0' -a cache -d 'Fill caches in guests'
complete -c thawctl -n '__thawctl_at 0' -a df -d 'Show guarded volumes'
complete -c thawctl -n '__thawctl_at 0' -a reserve -d 'Space held back for a full disk'

complete -c thawctl -n '__thawctl_at 0 stop,snapshot,complete,quiesce,prefetch,status,pause,resume' -a '(__thawctl_vms)' -d VM
complete -c thawctl -n '__thawctl_in top' -a '(__thawctl_vms)' -d VM
complete -c thawctl -n '__thawctl_at 1 restore' -a '(__thawctl_images)' -d Image
complete -c thawctl -n '__thawctl_at 0 cancel' -a '(__thawctl_jobs)' -d Job
complete -c thawctl -n '__thawctl_at 1 prefetch' -a 'yes no'
complete -c thawctl -n '__thawctl_at 0 policy' -a 'MemoryBackend Prefetch Recording'
complete -c thawctl -n '__thawctl_at 0 policy MemoryBackend' -a 'auto uffd file'
complete -c thawctl -n '__thawctl_at 0 policy Prefetch,Recording' -a 'yes no'
complete -c thawctl -n '__thawctl_in restore' -l from-config -d "Take image and options from the VM's file"
complete -c thawctl -n '__thawctl_in restore' -l memory-backend -x -a 'auto uffd file' -d 'How memory is loaded'
complete -c thawctl -n '__thawctl_in restore' -l prefetch -x -a 'yes no' -d 'Load pages ahead'
complete -c thawctl -n '__thawctl_in restore' -l track -d 'Note what the VM changes'
complete -c thawctl -n '__thawctl_in restore' -l load-timeout -x -d 'Limit for loading'
complete -c thawctl -n '__thawctl_in restore' -l network-override -x -d 'IFACE=DEV'
complete -c thawctl -n '__thawctl_in restore,stop,snapshot,complete' -l no-block -d 'Do not wait'
complete -c thawctl -n '__thawctl_in restore,prefetch' -l prefetch-rate -x -d 'Bytes per second'
complete -c thawctl -n '__thawctl_in restore,prefetch' -l replay-budget -x -d 'Of the working set'
complete -c thawctl -n '__thawctl_in restore,prefetch' -l sequential-budget -x -d 'In file order without one'
complete -c thawctl -n '__thawctl_in restore' -l rootfs -r -F -d 'Base of an overlay'
complete -c thawctl -n '__thawctl_in restore' -l rootfs-durable -d 'The overlay survives the VM'
complete -c thawctl -n '__thawctl_in restore' -l rootfs-size -x -d 'Of the disk'
complete -c thawctl -n '__thawctl_in restore' -l rootfs-memory -x -d 'Changes in memory'
complete -c thawctl -n '__thawctl_in restore' -l rootfs-disk -x -d 'Changes on disk'
complete -c thawctl -n '__thawctl_in restore' -l rootfs-drive -x -d 'Drive of the image that it is'
complete -c thawctl -n '__thawctl_in stop' -l ignore-missing -d 'Succeed without such a VM'
complete -c thawctl -n '__thawctl_in snapshot' -l diff -d 'Only what changed'
complete -c thawctl -n '__thawctl_in quiesce' -l release -d 'Let it go on'
complete -c thawctl -n '__thawctl_in top' -s i -l interval -x -d 'Time between two looks'
complete -c thawctl -n '__thawctl_in top' -s n -l iterations -x -d 'End after so many'
complete -c thawctl -n '__thawctl_in df' -l watch -d 'Show it again every second'

complete -c thawctl -n '__thawctl_at 0 reserve' -a status -d 'Show the reserves'
complete -c thawctl -n '__thawctl_at 0 reserve' -a release -d 'Give a reserve back'
complete -c thawctl -n '__thawctl_at 0 reserve release' -a '(__thawctl_volumes)' -d Volume
complete -c thawctl -n '__thawctl_in reserve release' -l bytes -x -d 'At least so much'
complete -c thawctl -n '__thawctl_in reserve release' -l all -d 'All volumes'

complete -c thawctl -n '__thawctl_at 0 image' -a import -d 'Make an image of a snapshot'
complete -c thawctl -n '__thawctl_at 0 image' -a seal -d 'Seal files that are in place'
complete -c thawctl -n '__thawctl_at 0 image' -a record -d 'See what the guest touches first'
complete -c thawctl -n '__thawctl_at 0 image' -a add-remote -d 'Use an image that stays on a server'
complete -c thawctl -n '__thawctl_at 0 image' -a pull -d 'Fetch all of a remote image'
complete -c thawctl -n '__thawctl_at 0 image' -a push -d 'Put an image on a server'
complete -c thawctl -n '__thawctl_at 0 image' -a verify -d 'Compare all checksums'
complete -c thawctl -n '__thawctl_at 0 image' -a list -d 'List images'
complete -c thawctl -n '__thawctl_at 0 image' -a show -d 'Show one image'
complete -c thawctl -n '__thawctl_at 0 image' -a rm -d 'Remove an image'
complete -c thawctl -n '__thawctl_at 0 image' -a export-delta -d 'Write a difference to one file'
complete -c thawctl -n '__thawctl_at 0 image' -a import-delta -d 'Make an image of such a file'
complete -c thawctl -n '__thawctl_at 0 image' -a clean -d 'Remove what crashes left'
complete -c thawctl -n '__thawctl_at 0 image record,pull,push,verify,show,rm,export-delta' -a '(__thawctl_images)' -d Image
complete -c thawctl -n '__thawctl_in image import,seal' -l state -r -F -d 'State file'
complete -c thawctl -n '__thawctl_in image import,seal' -l memory -r -F -d 'Memory file'
complete -c thawctl -n '__thawctl_in image import,seal' -l rootfs -r -F -d 'Root file system'
complete -c thawctl -n '__thawctl_in image import,seal' -l page-size -x -a '4K 2M' -d 'Page size on the host'
complete -c thawctl -n '__thawctl_in image import,seal' -l vmm -x -d 'VMM that wrote the snapshot'
complete -c thawctl -n '__thawctl_in image import,seal' -l vmm-version -x -d 'Its version'
complete -c thawctl -n '__thawctl_in image import,seal' -l drive -x -d 'ID=PATH[:ro][:shared]'
complete -c thawctl -n '__thawctl_in image import,seal' -l vsock -r -F -d 'Path of the vsock socket'
complete -c thawctl -n '__thawctl_in image import' -l move -d 'Take the files'
complete -c thawctl -n '__thawctl_at 1 image export-delta,import-delta' -F
complete -c thawctl -n '__thawctl_in image export-delta' -l force -d 'Replace the file'
complete -c thawctl -n '__thawctl_in image import,import-delta' -l base -x -a '(__thawctl_images)' -d 'Make a difference to that image'
complete -c thawctl -n '__thawctl_in image import' -l pages -r -F -d 'Bitmap of the pages to take'
complete -c thawctl -n '__thawctl_in image record' -l runs -x -d 'Number of runs'
complete -c thawctl -n '__thawctl_in image record' -l max -x -d 'Limit of each run'
complete -c thawctl -n '__thawctl_in image record' -l allow-writes -d 'Also with writable drives'
complete -c thawctl -n '__thawctl_in image record' -l no-block -d 'Do not wait'
complete -c thawctl -n '__thawctl_in image add-remote,pull,push' -l fetch-socket -r -F -d 'Socket of thaw-fetchd'
complete -c thawctl -n '__thawctl_in image push' -l force -d 'Also when there is one'
complete -c thawctl -n '__thawctl_in image rm' -l force -d 'Also when in use'

complete -c thawctl -n '__thawctl_at 0 share' -a add -d 'Start a share for a VM'
complete -c thawctl -n '__thawctl_at 0 share' -a open -d 'Start a share for any VMM, print its socket'
complete -c thawctl -n '__thawctl_at 0 share' -a list -d 'List shares'
complete -c thawctl -n '__thawctl_at 0 share' -a status -d 'Show shares of a VM'
complete -c thawctl -n '__thawctl_at 0 share' -a remove -d 'Stop a share'
complete -c thawctl -n '__thawctl_at 0 share' -a raise-limit -d 'Give a running daemon more descriptors'
complete -c thawctl -n '__thawctl_at 0 share' -a drop-caches -d 'Have the guest give back what it only caches'
complete -c thawctl -n '__thawctl_at 0 share add' -a '(__thawctl_vms)' -d VM
complete -c thawctl -n '__thawctl_at 0 share status,remove,raise-limit,drop-caches' -a '(__thawctl_share_names)' -d VM
complete -c thawctl -n '__thawctl_at 0 share open' -a '(__fish_complete_directories)' -d Folder
complete -c thawctl -n '__thawctl_at 2 share add' -a '(__fish_complete_directories)' -d Folder
complete -c thawctl -n '__thawctl_in share add,open' -l read-only -d 'The guest cannot write'
complete -c thawctl -n '__thawctl_in share add,open' -l file-handles -x -a 'auto mandatory prefer never' -d 'Handles in place of descriptors'
complete -c thawctl -n '__thawctl_in share add,open' -l limit -x -d 'Descriptors of the daemon'
complete -c thawctl -n '__thawctl_in share add,open' -l on-low-limit -x -a 'fail degraded' -d 'When the machine gives less'
complete -c thawctl -n '__thawctl_in share add,open' -l memory-high -x -d 'Memory of the daemon'
complete -c thawctl -n '__thawctl_in share add,open' -l cache -x -a 'auto always never metadata' -d 'What the guest may cache'
complete -c thawctl -n '__thawctl_in share add,open' -l sandbox -x -a 'namespace chroot none' -d 'How the daemon locks itself in'
complete -c thawctl -n '__thawctl_in share add,open' -l user -x -a '(__fish_complete_users)' -d 'User of the daemon'
complete -c thawctl -n '__thawctl_in share add,open' -l socket-user -x -a '(__fish_complete_users)' -d 'Who may connect'
complete -c thawctl -n '__thawctl_in share add,open' -l socket-group -x -a '(__fish_complete_groups)' -d 'Who may connect'
complete -c thawctl -n '__thawctl_in share add,open' -l translate-uid -x -d 'As of virtiofsd'
complete -c thawctl -n '__thawctl_in share add,open' -l translate-gid -x -d 'As of virtiofsd'
complete -c thawctl -n '__thawctl_in share add,open' -l xattr -d 'Extended attributes'
complete -c thawctl -n '__thawctl_in share add,open' -l posix-acl -d 'POSIX ACLs'
complete -c thawctl -n '__thawctl_in share add,open' -l allow-mmap -d 'Shared mappings without a cache'
complete -c thawctl -n '__thawctl_in share add,open' -l writeback -d 'The guest may write later'
complete -c thawctl -n '__thawctl_in share add,open' -l threads -x -d 'Threads of the daemon'
complete -c thawctl -n '__thawctl_in share add,open' -l reconnectable -d 'The VMM connects again by itself'
complete -c thawctl -n '__thawctl_in share add,open' -l offer-tag -d 'The daemon tells the VMM its tag'
complete -c thawctl -n '__thawctl_in share add,open' -l on-loss -x -a 'ignore stop' -d 'What becomes of the VM without it'
complete -c thawctl -n '__thawctl_in share add,open' -l unit -x -d 'Unit of the VM'
complete -c thawctl -n '__thawctl_in share open' -l name -x -d 'Name to keep it under'
complete -c thawctl -n '__thawctl_in share remove' -l force -d 'Also while a VM uses it'

complete -c thawctl -n '__thawctl_at 0 rootfs' -a list -d 'List running overlays'
complete -c thawctl -n '__thawctl_at 0 rootfs' -a status -d 'Show an overlay'
complete -c thawctl -n '__thawctl_at 0 rootfs' -a export -d 'Write what a VM has changed to a file'
complete -c thawctl -n '__thawctl_at 0 rootfs' -a import -d 'Make a disk of a base and a difference'
complete -c thawctl -n '__thawctl_at 0 rootfs' -a compare -d 'Compare differences or disks'
complete -c thawctl -n '__thawctl_at 0 rootfs' -a show -d 'Show what a difference holds'
complete -c thawctl -n '__thawctl_at 0 rootfs status,export' -a '(__thawctl_rootfs_names)' -d VM
complete -c thawctl -n '__thawctl_at 1 rootfs export' -F
complete -c thawctl -n '__thawctl_in rootfs import,compare,show' -F
complete -c thawctl -n '__thawctl_in rootfs import,compare' -l base -r -F -d 'What the difference lies over'
complete -c thawctl -n '__thawctl_in rootfs export,import' -l force -d 'Replace the file'
complete -c thawctl -n '__thawctl_in rootfs import' -l in-place -d 'Change the base'
complete -c thawctl -n '__thawctl_in rootfs import' -l assume-base -d 'Do not check that it is that base'

complete -c thawctl -n '__thawctl_at 0 cache' -a warm -d "Copy a folder into a guest's own disk"
complete -c thawctl -n '__thawctl_at 0 cache warm' -a '(__thawctl_vms)' -d VM
complete -c thawctl -n '__thawctl_at 1 cache warm' -a '(__fish_complete_directories)' -d Folder
complete -c thawctl -n '__thawctl_in cache warm' -l refresh -d 'Replace what an earlier run made'
complete -c thawctl -n '__thawctl_in cache warm' -l transport -x -d 'Command that runs words in the guest'
complete -c thawctl -n '__thawctl_in cache warm' -l timeout -x -d 'Limit of a silent guest'
