# SPDX-License-Identifier: MIT
# bash completion for thawctl(1)

__thawctl_column() {
    thawctl "$@" --no-legend --no-pager --no-ask-password 2>/dev/null | cut -d ' ' -f 1
}

__thawctl_images() {
    thawctl image list --no-legend --no-pager 2>/dev/null | cut -d ' ' -f 1
}

_thawctl() {
    local cur prev words cword
    if declare -F _init_completion >/dev/null; then
        _init_completion -n = || return
    else
        words=("${COMP_WORDS[@]}")
        cword=$COMP_CWORD
        cur=${words[cword]}
        prev=${words[cword - 1]}
    fi
    local verbs='restore stop snapshot list jobs sessions top metrics status complete quiesce prefetch cancel policy pause resume doctor image share cache rootfs df reserve'
    local image_verbs='import seal record add-remote pull push verify list show rm export-delta import-delta clean'
    local share_verbs='add open list status remove raise-limit drop-caches'
    local share_options='--read-only --file-handles --limit --on-low-limit --memory-high --cache --sandbox
        --user --socket-user --socket-group --translate-uid --translate-gid --xattr --posix-acl --allow-mmap
        --writeback --threads --reconnectable --offer-tag --on-loss --unit'
    local reserve_verbs='status release'
    local rootfs_verbs='list status export import compare show'
    local globals='--json --no-pager --no-legend --no-ask-password --image-root --help --version'
    local verb='' sub='' name='' i

    for ((i = 1; i < cword; i++)); do
        case ${words[i]} in
        --json | --image-root | --memory-backend | --prefetch | --load-timeout | --network-override | \
            --state | --memory | --page-size | --vmm | --vmm-version | --drive | --vsock | --base | --pages | --rootfs | --fetch-socket | --file-handles | \
            --limit | --on-low-limit | --memory-high | --cache | --sandbox | --user | --socket-user | \
            --socket-group | --translate-uid | --translate-gid | --threads | --on-loss | --unit | --name | \
            --transport | --timeout | --bytes | --interval | -i | --iterations | -n | \
            --prefetch-rate | --replay-budget | --sequential-budget | --rootfs-size | --rootfs-memory | --rootfs-disk | --rootfs-drive | --runs | --max)
            ((i++))
            ;;
        -*) ;;
        *)
            if [[ -z $verb ]]; then
                verb=${words[i]}
            elif [[ $verb == @(image|share|cache|rootfs|reserve) && -z $sub ]]; then
                sub=${words[i]}
            elif [[ -z $name ]]; then
                name=${words[i]}
            fi
            ;;
        esac
    done

    local options=$globals choices=''
    case $prev in
    --json) choices='short pretty off' ;;
    --memory-backend) choices='auto uffd file' ;;
    --prefetch) choices='yes no' ;;
    --page-size) choices='4K 2M' ;;
    --file-handles) choices='auto mandatory prefer never' ;;
    --on-low-limit) choices='fail degraded' ;;
    --cache) choices='auto always never metadata' ;;
    --sandbox) choices='namespace chroot none' ;;
    --on-loss) choices='ignore stop' ;;
    --user | --socket-user)
        mapfile -t COMPREPLY < <(compgen -u -- "$cur")
        return
        ;;
    --socket-group)
        mapfile -t COMPREPLY < <(compgen -g -- "$cur")
        return
        ;;
    --base)
        if [[ $verb == rootfs ]]; then
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
        fi
        choices=$(__thawctl_images)
        ;;
    --state | --memory | --vsock | --pages | --image-root | --rootfs | --fetch-socket)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    --load-timeout | --network-override | --vmm | --vmm-version | --drive | --limit | --memory-high | \
        --translate-uid | --translate-gid | --threads | --unit | --name | --transport | --timeout | --bytes | --interval | -i | --iterations | -n | \
            --prefetch-rate | --replay-budget | --sequential-budget | --rootfs-size | --rootfs-memory | --rootfs-disk | --rootfs-drive | --runs | --max)
        return
        ;;
    esac
    if [[ -n $choices ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$cur")
        return
    fi

    case $verb in
    '') choices=$verbs ;;
    restore)
        options+=' --from-config --memory-backend --prefetch --track --load-timeout --network-override --no-block'
        options+=' --prefetch-rate --replay-budget --sequential-budget'
        options+=' --rootfs --rootfs-durable --rootfs-size --rootfs-memory --rootfs-disk --rootfs-drive'
        [[ -n $name ]] && choices=$(__thawctl_images)
        ;;
    stop)
        options+=' --no-block --ignore-missing'
        [[ -z $name ]] && choices=$(__thawctl_column list)
        ;;
    snapshot | complete)
        options+=' --no-block'
        [[ $verb == snapshot ]] && options+=' --diff'
        [[ -z $name ]] && choices=$(__thawctl_column list)
        ;;
    quiesce)
        options+=' --release'
        [[ -z $name ]] && choices=$(__thawctl_column list)
        ;;
    prefetch)
        options+=' --prefetch-rate --replay-budget --sequential-budget'
        if [[ -z $name ]]; then choices=$(__thawctl_column list); else choices='yes no'; fi
        ;;
    top)
        options+=' --interval --iterations'
        choices=$(__thawctl_column list)
        ;;
    status | pause | resume) [[ -z $name ]] && choices=$(__thawctl_column list) ;;
    cancel) [[ -z $name ]] && choices=$(thawctl jobs --no-legend --no-pager 2>/dev/null | awk '{print $1}') ;;
    policy)
        case $name in
        '') choices='MemoryBackend Prefetch Recording' ;;
        MemoryBackend) choices='auto uffd file' ;;
        *) choices='yes no' ;;
        esac
        ;;
    df) options+=' --watch' ;;
    reserve)
        case $sub in
        '') choices=$reserve_verbs ;;
        release)
            options+=' --bytes --all'
            [[ -z $name ]] && choices=$(__thawctl_column df)
            ;;
        esac
        ;;
    image)
        case $sub in
        '') choices=$image_verbs ;;
        import) options+=' --state --memory --rootfs --move --base --pages --page-size --vmm --vmm-version --drive --vsock' ;;
        seal) options+=' --state --memory --rootfs --page-size --vmm --vmm-version --drive --vsock' ;;
        record)
            options+=' --runs --max --allow-writes --no-block'
            [[ -z $name ]] && choices=$(__thawctl_images)
            ;;
        add-remote) options+=' --fetch-socket' ;;
        pull)
            options+=' --fetch-socket'
            [[ -z $name ]] && choices=$(__thawctl_images)
            ;;
        push)
            options+=' --force --fetch-socket'
            [[ -z $name ]] && choices=$(__thawctl_images)
            ;;
        rm)
            options+=' --force'
            [[ -z $name ]] && choices=$(__thawctl_images)
            ;;
        verify | show) [[ -z $name ]] && choices=$(__thawctl_images) ;;
        export-delta)
            options+=' --force'
            [[ -z $name ]] && choices=$(__thawctl_images)
            ;;
        import-delta) options+=' --base' ;;
        esac
        if [[ $cur != -* && -n $name && $sub == @(export-delta|import-delta) ]]; then
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
        fi
        ;;
    rootfs)
        case $sub in
        '') choices=$rootfs_verbs ;;
        status) [[ -z $name ]] && choices=$(__thawctl_column rootfs list) ;;
        export)
            options+=' --force'
            [[ -z $name ]] && choices=$(__thawctl_column rootfs list)
            ;;
        import) options+=' --base --force --in-place --assume-base' ;;
        compare) options+=' --base' ;;
        esac
        if [[ $cur != -* && ($sub == @(import|compare|show) || ($sub == export && -n $name)) ]]; then
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
        fi
        ;;
    share)
        case $sub in
        '') choices=$share_verbs ;;
        add | open)
            options+=" $share_options"
            [[ $sub == open ]] && options+=' --name'
            if [[ $cur != -* && ($sub == open || -n $name) ]]; then
                mapfile -t COMPREPLY < <(compgen -d -- "$cur")
                return
            fi
            [[ -z $name ]] && choices=$(__thawctl_column list)
            ;;
        remove)
            options+=' --force'
            [[ -z $name ]] && choices=$(__thawctl_column share list)
            ;;
        status | raise-limit | drop-caches) [[ -z $name ]] && choices=$(__thawctl_column share list) ;;
        esac
        ;;
    cache)
        case $sub in
        '') choices='warm' ;;
        warm)
            options+=' --refresh --transport --timeout'
            if [[ $cur != -* && -n $name ]]; then
                mapfile -t COMPREPLY < <(compgen -d -- "$cur")
                return
            fi
            [[ -z $name ]] && choices=$(__thawctl_column list)
            ;;
        esac
        ;;
    esac
    [[ $cur == -* ]] && choices=$options
    mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$cur")
}

complete -F _thawctl thawctl
